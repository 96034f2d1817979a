pub fn step() -> String {
    let before = store::last();
    let text = store::note();
    format!("{text} {}", if store::last() == before + 1 { "same" } else { "MIXED" })
}
