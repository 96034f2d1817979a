pub fn name() -> &'static str {
    "office"
}
