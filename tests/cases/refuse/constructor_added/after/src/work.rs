extern "C" fn first() {}

#[used]
#[unsafe(link_section = ".init_array")]
static FIRST: extern "C" fn() = first;

pub fn line(count: u64) {
    println!("count={count} text=fancy");
}
