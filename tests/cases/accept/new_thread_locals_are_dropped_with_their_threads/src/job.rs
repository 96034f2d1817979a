pub fn step() -> String {
    "way=old".to_owned()
}

pub fn gone() -> String {
    "last=none".to_owned()
}

pub fn end_the_long_one() -> bool {
    false
}
