mod pace;
mod work;

fn main() {
    let mut count = 0;
    while pace::tick() {
        count += 1;
        work::line(count);
    }
}
