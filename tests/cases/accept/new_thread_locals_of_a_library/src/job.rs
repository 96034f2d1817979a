pub fn step() -> String {
    store::note()
}
