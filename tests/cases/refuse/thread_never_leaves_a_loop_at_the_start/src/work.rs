/// Its first instruction jumps to itself.
pub fn wait() {
    loop {}
}

pub fn text() -> &'static str {
    "by=before"
}
