//! A stand-in for the kernel of macOS, which keeps the rules that the calls are documented with and breaks down on demand.
//!
//! Holds tasks made of pages, files, ports with their references, and a log of calls. It refuses to write to pages that are
//! not writable, to raise a protection above the maximum without a copy, and to make a page writable and executable; it
//! knows a dead task by the codes that the headers have for one. A file that is written, or a page that loses the right to
//! be executed while its task runs, stays noticed. No threads, no signals but the one that starts a program.

use std::cell::{Ref, RefCell, RefMut};
use std::collections::BTreeMap;
use std::io;
use std::rc::Rc;

use super::kernel::{
    Answer, DISABLE_ASLR, KernReturn, Kernel, SIGCONT, START_SUSPENDED, ShareMode, TaskPort, VmProt, VmRegion,
};
use crate::{LaunchSpec, LiveAddr};

/// Where programs are without randomisation, as on 64-bit Macs.
pub(super) const BASE: u64 = 0x1_0000_0000;

/// What a page holds.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Backing {
    /// The page of a file; `is_shared` if writing reaches the file, otherwise a copy is made first.
    File { offset: usize, is_shared: bool },
    /// The task's own.
    Own(Vec<u8>),
}

/// One page.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Page {
    protection: VmProt,
    max: VmProt,
    /// What the kernel says of sharing; `None` for what follows from the backing.
    share: Option<ShareMode>,
    backing: Backing,
}

/// One task.
#[derive(Debug, Clone, Default)]
struct Task {
    is_dead: bool,
    suspensions: u32,
    is_held: bool,
    pages: BTreeMap<u64, Page>,
}

/// Which call goes wrong, counted from 1.
#[derive(Debug, Clone, Copy, Default)]
pub(super) enum Fault {
    /// None.
    #[default]
    None,
    /// The one with this number, with this code.
    Once(usize, KernReturn),
    /// From this one on all that give a protection without writing, with this code.
    Relocking(usize, KernReturn),
    /// Every task ends right before this one; calls to its port give the code.
    Death(usize, KernReturn),
}

/// What there is.
#[derive(Debug, Default)]
pub(super) struct World {
    pub(super) page_size: u64,
    pub(super) fault: Fault,
    /// Whether the caller has the entitlement.
    pub(super) is_entitled: bool,
    /// Every call, in order.
    pub(super) log: Vec<String>,
    /// The file that tasks map.
    pub(super) file: Vec<u8>,
    /// What no kernel would let pass silently.
    pub(super) broken: Vec<String>,
    dead_code: Option<KernReturn>,
    tasks: BTreeMap<u32, Task>,
    /// References by name; the process is the name without its first digit.
    ports: BTreeMap<u32, u32>,
}

/// A handle on it.
#[derive(Debug, Clone)]
pub(super) struct StandIn(Rc<RefCell<World>>);

/// Names of ports are this and the process.
const PORT: u32 = 0x1_0000;

impl StandIn {
    pub(super) fn new(page_size: u64) -> StandIn {
        let file = (0..page_size * 4).map(|at| u8::try_from(at % 251).expect("small")).collect();
        let world = World { page_size, is_entitled: true, file, ..World::default() };
        StandIn(Rc::new(RefCell::new(world)))
    }

    pub(super) fn world(&self) -> Ref<'_, World> {
        self.0.borrow()
    }

    pub(super) fn change(&self) -> RefMut<'_, World> {
        self.0.borrow_mut()
    }

    /// A running process without memory.
    pub(super) fn process(&self) -> u32 {
        let mut world = self.change();
        let pid = 100 + u32::try_from(world.tasks.len()).expect("few");
        world.tasks.insert(pid, Task::default());
        pid
    }

    /// Maps a page of the file.
    pub(super) fn map_file(&self, pid: u32, addr: u64, page: usize, protections: (VmProt, VmProt), is_shared: bool) {
        let offset = page * usize::try_from(self.world().page_size).expect("small");
        self.map(pid, addr, protections, Backing::File { offset, is_shared });
    }

    /// Maps a page of zeros.
    pub(super) fn map_zeros(&self, pid: u32, addr: u64, protections: (VmProt, VmProt)) {
        let zeros = vec![0; usize::try_from(self.world().page_size).expect("small")];
        self.map(pid, addr, protections, Backing::Own(zeros));
    }

    fn map(&self, pid: u32, addr: u64, (protection, max): (VmProt, VmProt), backing: Backing) {
        let mut world = self.change();
        let task = world.tasks.get_mut(&pid).expect("it was made");
        task.pages.insert(addr, Page { protection, max, share: None, backing });
    }

    /// What the kernel says of the sharing of a page.
    pub(super) fn set_share(&self, pid: u32, addr: u64, share: ShareMode) {
        self.change().tasks.get_mut(&pid).and_then(|task| task.pages.get_mut(&addr)).expect("it is mapped").share =
            Some(share);
    }

    /// Current protections of all pages.
    pub(super) fn protections(&self, pid: u32) -> Vec<(u64, VmProt)> {
        self.world().tasks[&pid].pages.iter().map(|(at, page)| (*at, page.protection)).collect()
    }

    /// The bytes of a task, past all protections.
    pub(super) fn bytes(&self, pid: u32, addr: u64, len: usize) -> Vec<u8> {
        self.world().peek(pid, addr, len).expect("it is mapped")
    }

    /// References to ports that were not given back.
    pub(super) fn references(&self) -> u32 {
        self.world().ports.values().sum()
    }

    /// Whether the threads of a process run.
    pub(super) fn runs(&self, pid: u32) -> bool {
        let task = &self.world().tasks[&pid];
        task.suspensions == 0 && !task.is_held
    }

    /// Ends a process.
    pub(super) fn kill(&self, pid: u32) {
        self.change().tasks.get_mut(&pid).expect("it was made").is_dead = true;
    }

    /// Counts a call and has it go wrong if that is wanted.
    fn call(&self, text: String) -> Answer<RefMut<'_, World>> {
        let mut world = self.change();
        let relocks = text.starts_with("protect") && !text.contains('w');
        world.log.push(text);
        let number = world.log.len();
        match world.fault {
            Fault::Once(at, code) if at == number => return Err(code),
            Fault::Relocking(at, code) if at <= number && relocks => return Err(code),
            Fault::Death(at, code) if at == number => {
                world.dead_code = Some(code);
                world.tasks.values_mut().for_each(|task| task.is_dead = true);
            }
            Fault::None | Fault::Once(..) | Fault::Relocking(..) | Fault::Death(..) => {}
        }
        Ok(world)
    }
}

impl World {
    /// The live task behind a port.
    fn task(&mut self, port: TaskPort) -> Answer<&mut Task> {
        if !self.ports.contains_key(&port.0) {
            return Err(KernReturn::SEND_INVALID_DEST);
        }
        let dead_code = self.dead_code.unwrap_or(KernReturn::SEND_INVALID_DEST);
        self.tasks.get_mut(&(port.0 - PORT)).filter(|task| !task.is_dead).ok_or(dead_code)
    }

    /// The first bytes of the pages that a range touches, which must all be there.
    fn pages(&mut self, port: TaskPort, addr: u64, len: u64) -> Answer<Vec<u64>> {
        let page_size = self.page_size;
        let end = addr.checked_add(len).ok_or(KernReturn::INVALID_ARGUMENT)?;
        let task = self.task(port)?;
        let first = addr & !(page_size - 1);
        let pages = (first..end).step_by(usize::try_from(page_size).expect("small"));
        pages.map(|at| task.pages.contains_key(&at).then_some(at).ok_or(KernReturn::INVALID_ADDRESS)).collect()
    }

    fn page(&self, pid: u32, at: u64) -> Option<Vec<u8>> {
        match &self.tasks.get(&pid)?.pages.get(&at)?.backing {
            Backing::Own(bytes) => Some(bytes.clone()),
            Backing::File { offset, .. } => {
                Some(self.file[*offset..][..usize::try_from(self.page_size).ok()?].to_vec())
            }
        }
    }

    fn peek(&self, pid: u32, addr: u64, len: usize) -> Option<Vec<u8>> {
        let at =
            |at: u64| Some(self.page(pid, at & !(self.page_size - 1))?[usize::try_from(at % self.page_size).ok()?]);
        (addr..addr + len as u64).map(at).collect()
    }

    fn poke(&mut self, pid: u32, addr: u64, bytes: &[u8]) {
        for (at, byte) in (addr..).zip(bytes) {
            let (start, inside) = (at & !(self.page_size - 1), usize::try_from(at % self.page_size).expect("small"));
            let own = self.page(pid, start).expect("it is mapped");
            let page = self.tasks.get_mut(&pid).and_then(|task| task.pages.get_mut(&start)).expect("it is mapped");
            match &mut page.backing {
                Backing::Own(own) => own[inside] = *byte,
                Backing::File { offset, is_shared: true } => {
                    self.file[*offset + inside] = *byte;
                    self.broken.push("the file was written".to_owned());
                }
                copied @ Backing::File { is_shared: false, .. } => {
                    *copied = Backing::Own(own);
                    if let Backing::Own(own) = copied {
                        own[inside] = *byte;
                    }
                }
            }
        }
    }
}

impl Kernel for StandIn {
    fn page_size(&self) -> u64 {
        self.world().page_size
    }

    fn spawn(&self, _: &LaunchSpec, flags: i16) -> io::Result<u32> {
        self.call(format!("spawn {flags:#x}")).map_err(|_| io::Error::from_raw_os_error(libc::EAGAIN))?;
        let pid = self.process();
        let slide = if flags & DISABLE_ASLR == 0 { u64::from(pid) * self.page_size() } else { 0 };
        self.map_file(pid, BASE + slide, 0, (CODE, CODE), false);
        self.change().tasks.get_mut(&pid).expect("it was made").is_held = flags & START_SUSPENDED != 0;
        Ok(pid)
    }

    fn signal(&self, pid: u32, signal: i32) -> io::Result<()> {
        let world = self.call(format!("signal {signal}"));
        let mut world = world.map_err(|_| io::Error::from_raw_os_error(libc::EPERM))?;
        let task = world.tasks.get_mut(&pid).filter(|task| !task.is_dead);
        let task = task.ok_or_else(|| io::Error::from_raw_os_error(libc::ESRCH))?;
        task.is_held &= signal != SIGCONT;
        Ok(())
    }

    fn task_for_pid(&self, pid: u32) -> Answer<TaskPort> {
        let mut world = self.call("task_for_pid".to_owned())?;
        let lives = world.tasks.get(&pid).is_some_and(|task| !task.is_dead);
        if !lives || !world.is_entitled {
            return Err(KernReturn::FAILURE);
        }
        *world.ports.entry(PORT + pid).or_default() += 1;
        Ok(TaskPort(PORT + pid))
    }

    fn pid_for_task(&self, task: TaskPort) -> Answer<u32> {
        let mut world = self.call("pid_for_task".to_owned())?;
        world.task(task).map_err(|_| KernReturn::FAILURE)?;
        Ok(task.0 - PORT)
    }

    fn deallocate(&self, task: TaskPort) -> Answer<()> {
        let mut world = self.call("deallocate".to_owned())?;
        let references = world.ports.get_mut(&task.0).ok_or(KernReturn::INVALID_NAME)?;
        *references -= 1;
        if *references == 0 {
            world.ports.remove(&task.0);
        }
        Ok(())
    }

    fn region(&self, task: TaskPort, addr: LiveAddr) -> Answer<VmRegion> {
        let mut world = self.call(format!("region {addr}"))?;
        let page_size = world.page_size;
        let pages = &world.task(task)?.pages;
        let described = |(at, page): (&u64, &Page)| {
            let (own, by_file) = match page.backing {
                Backing::File { is_shared: true, .. } => (ShareMode::SHARED, true),
                Backing::File { is_shared: false, .. } => (ShareMode::COW, true),
                Backing::Own(_) => (ShareMode::PRIVATE, false),
            };
            VmRegion {
                start: LiveAddr(*at),
                end: LiveAddr(*at + page_size),
                protection: page.protection,
                max_protection: page.max,
                share: page.share.unwrap_or(own),
                is_paged_by_a_file: by_file,
            }
        };
        let mut found = pages.range((addr.0 & !(page_size - 1))..).map(described);
        let mut region = found.next().ok_or(KernReturn::INVALID_ADDRESS)?;
        for next in found {
            if next != (VmRegion { start: region.end, end: next.end, ..region }) {
                break;
            }
            region.end = next.end;
        }
        Ok(region)
    }

    fn read(&self, task: TaskPort, addr: LiveAddr, bytes: &mut [u8]) -> Answer<usize> {
        let mut world = self.call(format!("read {addr}"))?;
        let pages = world.pages(task, addr.0, bytes.len() as u64)?;
        let all = &world.task(task)?.pages;
        if pages.iter().any(|at| !all[at].protection.has(VmProt::READ)) {
            return Err(KernReturn::PROTECTION_FAILURE);
        }
        bytes.copy_from_slice(&world.peek(task.0 - PORT, addr.0, bytes.len()).ok_or(KernReturn::INVALID_ADDRESS)?);
        Ok(bytes.len())
    }

    fn write(&self, task: TaskPort, addr: LiveAddr, bytes: &[u8]) -> Answer<()> {
        let mut world = self.call(format!("write {addr}"))?;
        let pages = world.pages(task, addr.0, bytes.len() as u64)?;
        let all = &world.task(task)?.pages;
        if pages.iter().any(|at| !all[at].protection.has(VmProt::WRITE)) {
            return Err(KernReturn::PROTECTION_FAILURE);
        }
        world.poke(task.0 - PORT, addr.0, bytes);
        Ok(())
    }

    fn protect(&self, task: TaskPort, start: LiveAddr, len: u64, protection: VmProt) -> Answer<()> {
        let copies = protection.has(VmProt::COPY);
        let rights = protection.rights();
        let copy = if copies { " copy" } else { "" };
        let mut world = self.call(format!("protect {start} {len:#x} {rights}{copy}"))?;
        let pages = world.pages(task, start.0, len)?;
        if rights.has(VmProt::WRITE) && rights.has(VmProt::EXECUTE) {
            return Err(KernReturn::PROTECTION_FAILURE);
        }
        let all = &world.task(task)?.pages;
        if !copies && pages.iter().any(|at| !all[at].max.has(rights)) {
            return Err(KernReturn::PROTECTION_FAILURE);
        }
        for at in pages {
            let own = world.page(task.0 - PORT, at).ok_or(KernReturn::INVALID_ADDRESS)?;
            let found = world.task(task)?;
            let runs = found.suspensions == 0;
            let page = found.pages.get_mut(&at).ok_or(KernReturn::INVALID_ADDRESS)?;
            let loses = page.protection.has(VmProt::EXECUTE) && !rights.has(VmProt::EXECUTE);
            page.protection = rights;
            if copies {
                page.max = page.max.with(VmProt::WRITE);
                page.backing = Backing::Own(own);
            }
            if loses && runs {
                world.broken.push(format!("a thread could run {at:#x}"));
            }
        }
        Ok(())
    }

    fn flush(&self, task: TaskPort, start: LiveAddr, len: u64) -> Answer<()> {
        let mut world = self.call(format!("flush {start} {len:#x}"))?;
        world.pages(task, start.0, len).map(drop)
    }

    fn suspend(&self, task: TaskPort) -> Answer<()> {
        self.call("suspend".to_owned())?.task(task)?.suspensions += 1;
        Ok(())
    }

    fn resume(&self, task: TaskPort) -> Answer<()> {
        let mut world = self.call("resume".to_owned())?;
        let suspensions = &mut world.task(task)?.suspensions;
        *suspensions = suspensions.checked_sub(1).ok_or(KernReturn::FAILURE)?;
        Ok(())
    }
}

/// What code is mapped with.
pub(super) const CODE: VmProt = VmProt::READ.with(VmProt::EXECUTE);
