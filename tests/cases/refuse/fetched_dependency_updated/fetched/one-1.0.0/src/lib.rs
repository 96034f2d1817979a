pub fn text() -> &'static str {
    "by=one-1.0.0"
}
