//! All unsafe code of the agent: libc and the loader, wrapped into functions of a few lines.
//!
//! Nothing in here knows the protocol. The constructor and the exported `dl_iterate_phdr` are here because their
//! attributes are unsafe; they call the safe modules at once.

#[cfg(target_arch = "aarch64")]
pub(crate) mod store;

use std::cell::Cell;
use std::ffi::{CStr, c_char, c_int, c_uint, c_void};
use std::ptr;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicPtr, Ordering};

use libc::{dl_phdr_info, size_t};
use relive_wire::LiveAddr;
use relive_wire::reserve::{RESERVE_ALIGN, RESERVE_SIZE, reserve_template};

use crate::{forks, objects, start};

/// Bytes of the thread's stack. `dlopen` needs a few of the first pages, the program's thread-locals may need more.
const STACK: usize = 512 << 10;
/// Request to `dladdr1` for the entry in the symbol table; a number of glibc's `dlfcn.h`.
const RTLD_DL_SYMENT: c_int = 1;
/// Longest environment key, terminator included.
const KEY_MAX: usize = 64;

#[used]
// SAFETY: the loader calls each word of `.init_array` as a C function; this one ignores the arguments.
#[unsafe(link_section = ".init_array")]
static CONSTRUCTOR: extern "C" fn() = constructor;

extern "C" fn constructor() {
    start::start();
}

/// The value of an environment key.
pub(crate) fn env(key: &str) -> Option<&'static CStr> {
    with_c_text(key, |key| {
        // SAFETY: `key` is terminated; no other thread changes the environment before `main`.
        let value = unsafe { libc::getenv(key.as_ptr()) };
        // SAFETY: a value of the initial environment lies in the initial stack, which is never freed; `setenv` and
        // `unsetenv` move pointers, not texts.
        (!value.is_null()).then(|| unsafe { CStr::from_ptr(value) })
    })
    .flatten()
}

/// Sets an environment key. Failure (no memory) leaves it as it was.
pub(crate) fn set_env(key: &str, value: &CStr) {
    // SAFETY: both are terminated; no other thread uses the environment before `main`.
    with_c_text(key, |key| unsafe { libc::setenv(key.as_ptr(), value.as_ptr(), 1) });
}

/// Removes an environment key.
pub(crate) fn unset_env(key: &str) {
    // SAFETY: `key` is terminated; no other thread uses the environment before `main`.
    with_c_text(key, |key| unsafe { libc::unsetenv(key.as_ptr()) });
}

/// `text` terminated, without allocating; `None` if it is too long or contains a zero byte.
fn with_c_text<T>(text: &str, then: impl FnOnce(&CStr) -> T) -> Option<T> {
    let mut copy = [0_u8; KEY_MAX];
    copy.get_mut(..text.len()).filter(|_| text.len() < KEY_MAX)?.copy_from_slice(text.as_bytes());
    let text_in_c = CStr::from_bytes_until_nul(&copy).ok()?;
    (text_in_c.count_bytes() == text.len()).then(|| then(text_in_c))
}

/// First page of the executable, from the program headers that the kernel names.
pub(crate) fn exe_start() -> Option<LiveAddr> {
    let [headers_at, count, size] = [libc::AT_PHDR, libc::AT_PHNUM, libc::AT_PHENT].map(auxiliary);
    if headers_at == 0 || size != size_of::<libc::Elf64_Phdr>() as u64 {
        return None;
    }
    // SAFETY: the kernel mapped `count` headers of this size there; the executable is never unmapped.
    let headers = unsafe { std::slice::from_raw_parts(headers_at as *const libc::Elf64_Phdr, count as usize) };
    let stated_at = headers.iter().find(|header| header.p_type == libc::PT_PHDR)?.p_vaddr;
    let lowest = headers.iter().filter(|header| header.p_type == libc::PT_LOAD).map(|header| header.p_vaddr).min()?;
    let bias = headers_at.wrapping_sub(stated_at);
    Some(LiveAddr(bias.wrapping_add(lowest) & !(auxiliary(libc::AT_PAGESZ).max(1) - 1)))
}

fn auxiliary(key: libc::c_ulong) -> u64 {
    // SAFETY: reads a table that the loader keeps; no conditions.
    unsafe { libc::getauxval(key) }
}

/// The process.
pub(crate) fn pid() -> u32 {
    std::process::id()
}

/// The calling thread.
pub(crate) fn tid() -> u32 {
    // SAFETY: no arguments, cannot fail.
    unsafe { libc::gettid() as u32 }
}

/// The part of each thread's storage that thread-locals of patches get theirs in.
#[repr(C, align(128))]
struct Reserve(Cell<[u8; RESERVE_SIZE]>);

const _: () = assert!(align_of::<Reserve>() as u64 == RESERVE_ALIGN && size_of::<Reserve>() == RESERVE_SIZE);

thread_local! {
    static RESERVE: Reserve = const { Reserve(Cell::new(reserve_template())) };
}

/// The reserve of the calling thread.
pub(crate) fn reserve() -> usize {
    RESERVE.with(|reserve| reserve.0.as_ptr() as usize)
}

/// The thread pointer of the calling thread. glibc's handle of a thread is nothing else on x86-64.
pub(crate) fn thread_pointer() -> LiveAddr {
    // SAFETY: names the calling thread; no conditions.
    LiveAddr(unsafe { libc::pthread_self() })
}

/// What the loader copies new threads' storage from.
struct Template {
    /// A thread-local of ours in the calling thread.
    own: usize,
    /// Its place in the template.
    found: Option<usize>,
}

/// Where new threads' copy of `own` is made from, a thread-local of this object in the calling thread.
pub(crate) fn template_of(own: usize) -> Option<usize> {
    let mut template = Template { own, found: None };
    let real = real_iterate()?;
    // SAFETY: `find_template` is given what it expects, a `Template` that outlives the call.
    unsafe { real(find_template, (&raw mut template).cast()) };
    template.found
}

/// Looks at one object: ends the iteration at our own.
unsafe extern "C" fn find_template(info: *mut dl_phdr_info, size: size_t, data: *mut c_void) -> c_int {
    if size < size_of::<dl_phdr_info>() {
        return 0;
    }
    // SAFETY: libc passes a valid record, and `size` says that it has all fields.
    let info = unsafe { &*info };
    if info.dlpi_phdr.is_null() {
        return 0;
    }
    // SAFETY: libc's own table of the object's headers, which stays mapped as long as the object.
    let headers = unsafe { std::slice::from_raw_parts(info.dlpi_phdr, usize::from(info.dlpi_phnum)) };
    let live = |header: &libc::Elf64_Phdr| info.dlpi_addr.wrapping_add(header.p_vaddr);
    let code = find_template as *const () as u64;
    let is_ours =
        |header: &libc::Elf64_Phdr| header.p_type == libc::PT_LOAD && code.wrapping_sub(live(header)) < header.p_memsz;
    if !headers.iter().any(is_ours) {
        return 0;
    }
    // SAFETY: `data` is the `Template` of the call in progress, which nothing else touches meanwhile.
    let template = unsafe { &mut *data.cast::<Template>() };
    // The calling thread's copy of all our thread-locals begins here, and the template at the segment.
    let distance = (template.own as u64).wrapping_sub(info.dlpi_tls_data as u64);
    let segment = headers.iter().find(|header| header.p_type == libc::PT_TLS);
    let holds = |segment: &&libc::Elf64_Phdr| distance.saturating_add(RESERVE_SIZE as u64) <= segment.p_filesz;
    template.found = segment.filter(holds).map(|segment| live(segment).wrapping_add(distance) as usize);
    1
}

/// First byte and size of the function of libc that makes threads, whoever has put another one before it.
pub(crate) fn thread_maker() -> Option<(usize, u64)> {
    // Before glibc 2.34 threads had a library of their own; if it is there today, it leads to libc.
    [c"libpthread.so.0", c"libc.so.6"].into_iter().find_map(|library| {
        // SAFETY: a terminated name; the flag keeps anything from being opened that is not.
        let handle = unsafe { libc::dlopen(library.as_ptr(), libc::RTLD_LAZY | libc::RTLD_NOLOAD) };
        if handle.is_null() {
            return None;
        }
        // SAFETY: an open handle, which is never closed, and a terminated name.
        let function = unsafe { libc::dlsym(handle, c"pthread_create".as_ptr()) };
        let mut info = std::mem::MaybeUninit::<libc::Dl_info>::zeroed();
        let mut symbol: *mut libc::Elf64_Sym = ptr::null_mut();
        let (entry, wanted) = ((&raw mut symbol).cast(), RTLD_DL_SYMENT);
        // SAFETY: both places are writable, the second for the pointer that this request stores.
        let known = unsafe { libc::dladdr1(function, info.as_mut_ptr(), entry, wanted) };
        if function.is_null() || known == 0 || symbol.is_null() {
            return None;
        }
        // SAFETY: an entry of the library's symbol table, which stays mapped.
        let size = unsafe { (*symbol).st_size };
        (size > 0).then_some((function as usize, size))
    })
}

/// A mapping that stays for the life of the process.
pub(crate) struct Mapping {
    start: *mut u8,
    len: usize,
}

impl Mapping {
    /// Writes `value` at `offset`; out of bounds or unaligned writes nothing.
    pub(crate) fn store(&self, offset: u64, value: u64) {
        let offset = offset as usize;
        if offset.is_multiple_of(8) && offset.saturating_add(8) <= self.len {
            // SAFETY: in bounds of the mapping, as just checked.
            let word = unsafe { self.start.add(offset) };
            // SAFETY: mapped writable, aligned (the mapping starts on a page), and nobody else knows it yet.
            unsafe { word.cast::<u64>().write(value) };
        }
    }
}

/// Maps zeroed memory at exactly `at`; `None` if something is there already.
pub(crate) fn map_zeroed_at(at: LiveAddr, len: u64) -> Option<Mapping> {
    let flags = libc::MAP_FIXED_NOREPLACE;
    let mapping = map(at.0 as *mut c_void, len as usize, flags)?;
    if mapping.start as u64 == at.0 {
        return Some(mapping);
    }
    // A kernel that does not know the flag took the address for a hint.
    // SAFETY: exactly the mapping just made, which nobody uses.
    unsafe { libc::munmap(mapping.start.cast(), mapping.len) };
    None
}

fn map(at: *mut c_void, len: usize, flags: c_int) -> Option<Mapping> {
    let (access, flags) = (libc::PROT_READ | libc::PROT_WRITE, flags | libc::MAP_PRIVATE | libc::MAP_ANONYMOUS);
    // SAFETY: without MAP_FIXED no existing mapping is replaced.
    let start = unsafe { libc::mmap(at, len, access, flags, -1, 0) };
    (start != libc::MAP_FAILED).then_some(Mapping { start: start.cast(), len })
}

/// Zeroed bytes that are never freed.
pub(crate) fn leak_zeroed(len: usize) -> Option<&'static mut [u8]> {
    let mapping = map(ptr::null_mut(), len, 0)?;
    // SAFETY: `len` zeroed writable bytes that are never unmapped and that nobody else refers to.
    Some(unsafe { std::slice::from_raw_parts_mut(mapping.start, mapping.len) })
}

/// `count` empty objects that are never freed.
pub(crate) fn leak_objects(count: usize) -> Option<&'static mut [Object]> {
    let mapping = map(ptr::null_mut(), count.checked_mul(size_of::<Object>())?, 0)?;
    // SAFETY: page-aligned, large enough, never unmapped, referred to by nobody else; all-zero bytes are an `Object`.
    Some(unsafe { std::slice::from_raw_parts_mut(mapping.start.cast::<Object>(), count) })
}

/// The `len` objects that `place` leads to, made by `make` and published if there are none yet; none without memory.
pub(crate) fn published(
    place: &'static AtomicPtr<Object>,
    len: usize,
    make: impl FnOnce() -> Option<&'static mut [Object]>,
) -> &'static [Object] {
    let mut first = place.load(Ordering::Acquire);
    if first.is_null() {
        let Some(made) = make().filter(|made| made.len() == len) else { return &[] };
        let made = made.as_mut_ptr();
        first = match place.compare_exchange(ptr::null_mut(), made, Ordering::AcqRel, Ordering::Acquire) {
            Ok(_) => made,
            Err(others) => others,
        };
    }
    // SAFETY: only this function writes to `place`, and only what `make` gave: `len` objects that are never freed and that
    // nobody refers to mutably any more.
    unsafe { std::slice::from_raw_parts(first, len) }
}

/// One object for `dl_iterate_phdr`: a path and one executable segment.
#[repr(C)]
pub(crate) struct Object {
    name: *const c_char,
    bias: u64,
    segment: libc::Elf64_Phdr,
}

// SAFETY: the pointer leads to bytes that are never written again nor freed (`new` takes them for ever).
unsafe impl Sync for Object {}
// SAFETY: as above.
unsafe impl Send for Object {}

impl Object {
    /// An object at `bias` whose segment is at `link_addr` in its file. `name` must end with a zero byte, else the
    /// name is empty.
    pub(crate) fn new(name: &'static [u8], bias: u64, link_addr: u64, size: u64) -> Object {
        let name = CStr::from_bytes_until_nul(name).unwrap_or_default().as_ptr();
        let segment = libc::Elf64_Phdr {
            p_type: libc::PT_LOAD,
            p_flags: libc::PF_R | libc::PF_X,
            p_offset: 0,
            p_vaddr: link_addr,
            p_paddr: link_addr,
            p_filesz: size,
            p_memsz: size,
            p_align: 0x1000,
        };
        Object { name, bias, segment }
    }

    fn info(&self, adds: u64, subs: u64) -> dl_phdr_info {
        dl_phdr_info {
            dlpi_addr: self.bias,
            dlpi_name: self.name,
            dlpi_phdr: &raw const self.segment,
            dlpi_phnum: 1,
            dlpi_adds: adds,
            dlpi_subs: subs,
            dlpi_tls_modid: 0,
            dlpi_tls_data: ptr::null_mut(),
        }
    }

    /// Live address and size of the segment.
    #[cfg(test)]
    pub(crate) fn range(&self) -> (u64, u64) {
        (self.bias + self.segment.p_vaddr, self.segment.p_memsz)
    }

    /// The path.
    #[cfg(test)]
    pub(crate) fn name(&self) -> &CStr {
        // SAFETY: `new` stored a terminated text that is never freed.
        unsafe { CStr::from_ptr(self.name) }
    }
}

type Callback = unsafe extern "C" fn(*mut dl_phdr_info, size_t, *mut c_void) -> c_int;
type Iterate = unsafe extern "C" fn(Callback, *mut c_void) -> c_int;

/// The caller's callback and what the real list said last.
struct Relay {
    callback: Callback,
    data: *mut c_void,
    /// Whether it is the turn of arenas, or of everything else.
    arenas: bool,
    size: size_t,
    adds: u64,
    subs: u64,
}

/// libc's list, then the announced objects, then arenas. Exported: it takes the place of libc's function of this name.
///
/// # Safety
/// As libc's: `callback` must be sound to call with each object's information and `data`.
// SAFETY: signature and meaning are libc's; the only other definition of the name is the one forwarded to.
#[unsafe(no_mangle)]
pub(crate) unsafe extern "C" fn dl_iterate_phdr(callback: Option<Callback>, data: *mut c_void) -> c_int {
    let (Some(callback), Some(real)) = (callback, real_iterate()) else { return 0 };
    let mut relay = Relay { callback, data, arenas: false, size: 0, adds: 0, subs: 0 };
    // SAFETY: `forward` is given what it expects, a `Relay` that outlives the call.
    let answer = unsafe { real(forward, (&raw mut relay).cast()) };
    if answer != 0 {
        return answer;
    }
    for object in objects::announced() {
        let mut info = object.info(relay.adds, relay.subs);
        // SAFETY: the caller promised that its callback takes this; `size` covers no more than `info` has.
        let answer = unsafe { callback(&raw mut info, relay.size.min(size_of::<dl_phdr_info>()), data) };
        if answer != 0 {
            return answer;
        }
    }
    relay.arenas = true;
    // SAFETY: as above.
    unsafe { real(forward, (&raw mut relay).cast()) }
}

/// Passes one real object on, if it is its turn, and keeps the counters that the announced objects repeat.
unsafe extern "C" fn forward(info: *mut dl_phdr_info, size: size_t, data: *mut c_void) -> c_int {
    // SAFETY: `data` is the `Relay` of the call in progress, which nothing else touches meanwhile.
    let relay = unsafe { &mut *data.cast::<Relay>() };
    relay.size = size;
    if size >= std::mem::offset_of!(dl_phdr_info, dlpi_tls_modid) {
        // SAFETY: libc passes a valid record, and `size` says that it has the counters.
        let counters = unsafe { &*info };
        (relay.adds, relay.subs) = (counters.dlpi_adds, counters.dlpi_subs);
    }
    // SAFETY: libc passes a valid record.
    if unsafe { is_arena(info) } != relay.arenas {
        return 0;
    }
    // SAFETY: the caller's own callback with libc's own record.
    unsafe { (relay.callback)(info, size, relay.data) }
}

/// Whether an object lies where arenas do.
///
/// # Safety
/// `info` must be a record of libc's.
unsafe fn is_arena(info: *const dl_phdr_info) -> bool {
    /// The fields that the record has had from its first version on.
    #[repr(C)]
    struct Oldest {
        bias: u64,
        name: *const c_char,
        headers: *const libc::Elf64_Phdr,
        count: u16,
    }
    // SAFETY: the caller's promise; the record begins with these fields, and nothing writes to them meanwhile.
    let Oldest { bias, headers, count, .. } = unsafe { &*info.cast::<Oldest>() };
    let Some(layout) = objects::arenas().filter(|_| !headers.is_null()) else { return false };
    // SAFETY: libc's own table of the object's headers, which stays mapped as long as the object.
    let headers = unsafe { std::slice::from_raw_parts(*headers, usize::from(*count)) };
    let first = headers.iter().find(|header| header.p_type == libc::PT_LOAD);
    first.is_some_and(|header| layout.in_arenas(LiveAddr(bias.wrapping_add(header.p_vaddr))))
}

/// libc's `dl_iterate_phdr`, looked up once.
fn real_iterate() -> Option<Iterate> {
    static REAL: AtomicPtr<c_void> = AtomicPtr::new(ptr::null_mut());
    let mut real = REAL.load(Ordering::Relaxed);
    if real.is_null() {
        // SAFETY: a terminated name; the handle means "after this object".
        real = unsafe { libc::dlsym(libc::RTLD_NEXT, c"dl_iterate_phdr".as_ptr()) };
        REAL.store(real, Ordering::Relaxed);
    }
    // SAFETY: null is `None`, everything else is libc's function of that signature.
    unsafe { std::mem::transmute::<*mut c_void, Option<Iterate>>(real) }
}

/// Has `before` run before every fork of the program, and `after` behind it in parent and child.
pub(crate) fn around_forks(before: extern "C" fn(), after: extern "C" fn()) {
    // SAFETY: the functions take nothing, never unwind, and stay where they are: the agent is never closed.
    unsafe { libc::pthread_atfork(Some(before), Some(after), Some(after)) };
}

/// Sleeps for about a tenth of a millisecond.
pub(crate) fn nap() {
    let time = libc::timespec { tv_sec: 0, tv_nsec: 100_000 };
    // SAFETY: reads one record; what is left of the time is not asked for.
    unsafe { libc::nanosleep(&raw const time, ptr::null_mut()) };
}

/// Opens a shared object for good and calls `then` with its load bias or the loader's text.
pub(crate) fn open_object<T>(path: &CStr, then: impl FnOnce(Result<u64, &[u8]>) -> T) -> T {
    // SAFETY: a terminated path. What the object's constructors do is relive's business: it links objects without.
    let handle = forks::apart(|| unsafe { libc::dlopen(path.as_ptr(), libc::RTLD_NOW | libc::RTLD_LOCAL) });
    let mut link_map: *const u64 = ptr::null();
    if !handle.is_null() {
        // SAFETY: an open handle, and the request stores one pointer.
        unsafe { libc::dlinfo(handle, libc::RTLD_DI_LINKMAP, (&raw mut link_map).cast()) };
    }
    if link_map.is_null() {
        return with_loader_text(|text| then(Err(text)));
    }
    // SAFETY: `l_addr` is the first word of every link map, and the object is never closed.
    then(Ok(unsafe { *link_map }))
}

/// Looks `name` up in the program's objects and calls `then` with its address or the loader's text.
pub(crate) fn look_up<T>(name: &CStr, then: impl FnOnce(Result<u64, &[u8]>) -> T) -> T {
    // SAFETY: a terminated name; the handle means the program's own scope.
    let address = forks::apart(|| unsafe { libc::dlsym(libc::RTLD_DEFAULT, name.as_ptr()) });
    if address.is_null() {
        return with_loader_text(|text| then(Err(text)));
    }
    then(Ok(address as u64))
}

/// Calls `then` with what the loader says of this thread's last failure.
fn with_loader_text<T>(then: impl FnOnce(&[u8]) -> T) -> T {
    // SAFETY: no arguments; the text stays valid until this thread's next call of the loader.
    let text = unsafe { libc::dlerror() };
    // SAFETY: null was excluded; otherwise a terminated text.
    let text = if text.is_null() { c"the loader gave no reason" } else { unsafe { CStr::from_ptr(text) } };
    then(text.to_bytes())
}

/// The inherited listening socket, owned by the agent's thread.
pub(crate) struct Listener(c_int);

/// What came of waiting for a connection.
pub(crate) enum Accepted {
    /// A connection.
    Peer(Socket),
    /// None this time; wait again.
    Nobody,
    /// The descriptor is of no more use.
    Never,
}

impl Listener {
    /// Waits for a connection of this user or root.
    pub(crate) fn accept(&self) -> Accepted {
        // SAFETY: no address is asked for.
        let fd = unsafe { libc::accept4(self.0, ptr::null_mut(), ptr::null_mut(), libc::SOCK_CLOEXEC) };
        if fd >= 0 {
            let socket = Socket(fd);
            return if socket.is_trusted() { Accepted::Peer(socket) } else { Accepted::Nobody };
        }
        match std::io::Error::last_os_error().raw_os_error() {
            Some(libc::EINTR | libc::ECONNABORTED) => Accepted::Nobody,
            Some(libc::EMFILE | libc::ENFILE | libc::ENOMEM | libc::ENOBUFS) => {
                std::thread::sleep(std::time::Duration::from_millis(100));
                Accepted::Nobody
            }
            Some(_) | None => Accepted::Never,
        }
    }
}

/// One connection.
pub(crate) struct Socket(c_int);

impl Socket {
    fn is_trusted(&self) -> bool {
        let mut peer = libc::ucred { pid: 0, uid: libc::uid_t::MAX, gid: 0 };
        let mut len = size_of::<libc::ucred>() as libc::socklen_t;
        let place = (&raw mut peer).cast();
        // SAFETY: `place` has `len` writable bytes.
        let result = unsafe { libc::getsockopt(self.0, libc::SOL_SOCKET, libc::SO_PEERCRED, place, &raw mut len) };
        // SAFETY: no arguments, cannot fail.
        let own = unsafe { libc::getuid() };
        result == 0 && (peer.uid == own || peer.uid == 0)
    }

    /// Fills `bytes`; false if the peer left before.
    pub(crate) fn receive(&self, bytes: &mut [u8]) -> bool {
        let mut rest = bytes;
        while !rest.is_empty() {
            // SAFETY: `rest` is writable for its length.
            let got = unsafe { libc::recv(self.0, rest.as_mut_ptr().cast(), rest.len(), 0) };
            match usize::try_from(got) {
                Ok(0) => return false,
                Ok(got) => rest = rest.get_mut(got..).unwrap_or_default(),
                Err(_) if interrupted() => {}
                Err(_) => return false,
            }
        }
        true
    }

    /// Sends `bytes`; false if the peer left.
    pub(crate) fn send(&self, bytes: &[u8]) -> bool {
        let mut rest = bytes;
        while !rest.is_empty() {
            // SAFETY: `rest` is readable for its length; the flag keeps SIGPIPE from the program.
            let sent = unsafe { libc::send(self.0, rest.as_ptr().cast(), rest.len(), libc::MSG_NOSIGNAL) };
            match usize::try_from(sent) {
                Ok(sent) => rest = rest.get(sent..).unwrap_or_default(),
                Err(_) if interrupted() => {}
                Err(_) => return false,
            }
        }
        true
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        close(self.0);
    }
}

fn interrupted() -> bool {
    std::io::Error::last_os_error().raw_os_error() == Some(libc::EINTR)
}

fn close(fd: c_int) {
    // SAFETY: callers own `fd`, or mean to close whatever is there in a table that is theirs alone.
    unsafe { libc::close(fd) };
}

/// What the thread is started with.
struct Job {
    fd: c_int,
    body: fn(&Listener),
}

/// The thread's work, and its answer that it tried for a file table of its own.
static JOB: OnceLock<Job> = OnceLock::new();
static TRIED_FOR_OWN_FILES: OnceLock<()> = OnceLock::new();

/// Runs `body` on a new thread that no signal is delivered to. The thread takes `fd` into a file table of its own;
/// when this returns the program no longer has it.
pub(crate) fn start_thread(fd: c_int, body: fn(&Listener)) {
    // SAFETY: changes one flag of a descriptor that relive handed to us.
    unsafe { libc::fcntl(fd, libc::F_SETFD, libc::FD_CLOEXEC) };
    if JOB.set(Job { fd, body }).is_ok() && create_thread() {
        TRIED_FOR_OWN_FILES.wait();
    }
    close(fd);
}

/// Creates the thread with all signals blocked, which it inherits; the caller's mask is as before afterwards.
fn create_thread() -> bool {
    let mut all = empty_signals();
    // SAFETY: an initialised set.
    unsafe { libc::sigfillset(&raw mut all) };
    let mut before = empty_signals();
    // SAFETY: both sets are initialised.
    unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, &raw const all, &raw mut before) };
    // Thread-locals of the program count against the stack: with very many the small stack is refused.
    let created = create_thread_with(STACK) || create_thread_with(16 * STACK);
    // SAFETY: `before` was filled in above.
    unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, &raw const before, ptr::null_mut()) };
    created
}

fn empty_signals() -> libc::sigset_t {
    let mut set = std::mem::MaybeUninit::uninit();
    // SAFETY: writes the whole set.
    unsafe { libc::sigemptyset(set.as_mut_ptr()) };
    // SAFETY: just written.
    unsafe { set.assume_init() }
}

fn create_thread_with(stack: usize) -> bool {
    let mut attributes = std::mem::MaybeUninit::uninit();
    let attributes = attributes.as_mut_ptr();
    // SAFETY: initialises the attributes, which are destroyed below.
    if unsafe { libc::pthread_attr_init(attributes) } != 0 {
        return false;
    }
    // SAFETY: initialised attributes.
    unsafe { libc::pthread_attr_setstacksize(attributes, stack) };
    // SAFETY: initialised attributes.
    unsafe { libc::pthread_attr_setdetachstate(attributes, libc::PTHREAD_CREATE_DETACHED) };
    let mut thread = 0;
    // SAFETY: `thread_main` needs no argument and never unwinds.
    let created = unsafe { libc::pthread_create(&raw mut thread, attributes, thread_main, ptr::null_mut()) };
    // SAFETY: initialised above, used no more.
    unsafe { libc::pthread_attr_destroy(attributes) };
    created == 0
}

extern "C" fn thread_main(_: *mut c_void) -> *mut c_void {
    // SAFETY: names the calling thread; no conditions.
    let this = unsafe { libc::pthread_self() };
    // SAFETY: a live thread and a terminated name of fewer than 16 bytes.
    unsafe { libc::pthread_setname_np(this, c"relive-agent".as_ptr()) };
    let job = JOB.get().filter(|job| take_own_files(job.fd));
    let _ = TRIED_FOR_OWN_FILES.set(());
    if let Some(job) = job {
        (job.body)(&Listener(job.fd));
        close(job.fd);
    }
    ptr::null_mut()
}

/// Gives this thread a file table that holds `keep` and nothing else; false if the system does not let it.
fn take_own_files(keep: c_int) -> bool {
    let Ok(keep) = c_uint::try_from(keep) else { return false };
    if close_range(keep.saturating_add(1), c_uint::MAX, libc::CLOSE_RANGE_UNSHARE) {
        return keep == 0 || close_range(0, keep - 1, 0);
    }
    // Kernels before 5.9, and filters that do not know the call.
    // SAFETY: from here on this thread's descriptors are its own; it holds none but `keep`.
    if unsafe { libc::unshare(libc::CLONE_FILES) } != 0 {
        return false;
    }
    // SAFETY: no memory is involved.
    let limit = unsafe { libc::sysconf(libc::_SC_OPEN_MAX) }.clamp(1024, 1 << 16) as c_uint;
    (0..limit).filter(|fd| *fd != keep).for_each(|fd| close(fd as c_int));
    true
}

fn close_range(first: c_uint, last: c_uint, flags: c_uint) -> bool {
    // SAFETY: only descriptors are affected, and with the first call they become this thread's alone.
    unsafe { libc::syscall(libc::SYS_close_range, first, last, flags) == 0 }
}
