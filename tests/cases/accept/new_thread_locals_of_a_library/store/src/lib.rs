pub fn note() -> String {
    "way=old".to_owned()
}
