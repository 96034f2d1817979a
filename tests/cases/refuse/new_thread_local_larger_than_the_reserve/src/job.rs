pub fn step() -> String {
    "way=old".to_owned()
}
