mod job;
mod pace;

fn main() {
    while pace::tick() {
        println!("{}", job::step());
    }
}
