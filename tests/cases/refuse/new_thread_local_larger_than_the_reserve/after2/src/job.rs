use std::cell::Cell;

#[repr(align(4096))]
struct Page(Cell<u64>);

thread_local! {
    static PAGE: Page = const { Page(Cell::new(6)) };
}

pub fn step() -> String {
    format!("way=page {}", PAGE.with(|page| page.0.get()))
}
