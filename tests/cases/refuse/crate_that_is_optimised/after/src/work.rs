pub fn line(count: u64) {
    println!("count={count} text=fancy");
}
