pub mod late;

pub fn text() -> String {
    "by=text".to_owned()
}
