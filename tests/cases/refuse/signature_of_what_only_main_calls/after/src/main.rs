mod pace;

fn line(count: u64, text: &str) {
    println!("count={count} text={text}");
}

fn main() {
    let mut count: u64 = 0;
    while pace::tick() {
        count += 1;
        line(count, "fancy");
    }
}
