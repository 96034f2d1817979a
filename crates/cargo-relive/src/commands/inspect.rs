//! `inspect`: what the snapshot of a binary holds, on stdout, for people or as one JSON document.
//!
//! The index is kept where a session would keep it, if the binary lies in the target directory of one; otherwise in the
//! user's cache directory; if neither can be written, nowhere.

use std::env;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use relive::binary::names;
use relive::binary::object::{Binding, SymbolKind};
use relive::binary::snapshot::{Access, BinarySymbol, Format, Key, Kind, Machine, Snapshot};
use relive::snapshots::{self, Opened, Source};
use serde_json::{Value, json};

use super::{fail, stream};
use crate::exit::Exit;
use crate::flags;

/// Reads the binary, or its index, and prints what is in it.
#[must_use]
pub fn run(flags: &flags::Inspect) -> Exit {
    let machine = flags.arch.map(|arch| match arch {
        flags::Arch::X86_64 => Machine::X86_64,
        flags::Arch::Aarch64 => Machine::Aarch64,
    });
    let folder = folder(&flags.binary);
    let opened = match snapshots::open(&flags.binary, machine, folder.as_deref()) {
        Ok(opened) => opened,
        Err(why) => return fail(&why),
    };
    stream(|out| match flags.json {
        true => document(out, &flags.binary, &opened, flags.symbols),
        false => page(out, &flags.binary, &opened, flags.symbols),
    })
}

/// Where the index is kept.
fn folder(binary: &Path) -> Option<PathBuf> {
    let binary = std::fs::canonicalize(binary).ok();
    let sessions = binary.iter().flat_map(|path| path.ancestors().skip(1)).map(|folder| folder.join("relive"));
    let session = sessions.filter(|folder| folder.join("tool").is_dir()).map(|folder| folder.join("snapshots")).next();
    let cache = || {
        let set = |name: &str| env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
        let cache = set("XDG_CACHE_HOME").or_else(|| set("HOME").map(|home| home.join(".cache")))?;
        Some(cache.join("relive"))
    };
    session.or_else(cache)
}

fn page(out: &mut dyn Write, binary: &Path, opened: &Opened, symbols: bool) -> io::Result<()> {
    let Opened { snapshot, source, took } = opened;
    let id = snapshot.identity();
    writeln!(out, "{}: {} {} for {}", binary.display(), format(id.format), kind(snapshot.kind()), machine(id.machine))?;
    writeln!(out, "{:12} {} ({} bytes)", id.key.name(), id.key, id.size)?;
    for segment in snapshot.segments() {
        let (start, end) = (segment.start.0, segment.end().0);
        let (access, from) = (access(segment.access), segment.file_offset);
        writeln!(
            out,
            "segment      {start:#x}..{end:#x} {access}, {} bytes at {from:#x} of the file",
            segment.file_size
        )?;
    }
    let tls = snapshot.tls();
    if tls.size > 0 {
        writeln!(out, "thread-local {} bytes, aligned to {}, at {:#x}", tls.size, tls.align, tls.start.0)?;
    }
    let exported =
        if snapshot.is_stripped() { ", only those that it exports: its symbol table was removed" } else { "" };
    writeln!(out, "symbols      {}{exported}", snapshot.len())?;
    writeln!(out, "functions    {}", snapshot.functions())?;
    writeln!(out, "units        {}", snapshot.units())?;
    writeln!(out, "imports      {}", snapshot.import_names().count())?;
    let index = match source {
        Source::Kept(path) => format!("used, `{}`", path.display()),
        Source::Built(path) => format!("built, and kept in `{}`", path.display()),
        Source::Lost(why) => format!("built, and not kept: {why}"),
    };
    writeln!(out, "index        {index} ({} bytes)", snapshot.index().len())?;
    writeln!(out, "read in      {} ms", milliseconds(*took))?;
    if symbols {
        snapshot.all().try_for_each(|symbol| line(out, snapshot, &symbol))?;
    }
    Ok(())
}

/// With one digit after the point below ten.
fn milliseconds(took: std::time::Duration) -> String {
    let ms = took.as_secs_f64() * 1e3;
    if ms < 10.0 { format!("{ms:.1}") } else { format!("{ms:.0}") }
}

fn line(out: &mut dyn Write, snapshot: &Snapshot, symbol: &BinarySymbol) -> io::Result<()> {
    let BinarySymbol { addr, size, kind, binding, .. } = *symbol;
    let name = names::readable(snapshot.name(symbol));
    writeln!(out, "{:#018x} {size:>10} {:9} {:6} {name}", addr.0, symbol_kind(kind), self::binding(binding))
}

/// The document, symbol by symbol: there may be millions.
fn document(out: &mut dyn Write, binary: &Path, opened: &Opened, symbols: bool) -> io::Result<()> {
    let Opened { snapshot, source, took } = opened;
    let mut facts = facts(snapshot);
    let (source, path, why) = match source {
        Source::Kept(path) => ("kept", Some(path), None),
        Source::Built(path) => ("built", Some(path), None),
        Source::Lost(why) => ("not-kept", None, Some(why)),
    };
    let path = path.map(|path| path.to_string_lossy());
    facts["index"] = json!({ "source": source, "path": path, "why": why, "bytes": snapshot.index().len() });
    facts["took_ms"] = json!(took.as_secs_f64() * 1e3);
    facts["binary"] = json!(binary.to_string_lossy());
    let text = facts.to_string();
    let Some(open) = text.strip_suffix('}').filter(|_| symbols) else { return writeln!(out, "{text}") };
    write!(out, "{open},\"symbols\":[")?;
    for (at, symbol) in snapshot.all().enumerate() {
        write!(out, "{}{}", if at == 0 { "\n" } else { ",\n" }, symbol_facts(snapshot, &symbol))?;
    }
    writeln!(out, "\n]}}")
}

fn facts(snapshot: &Snapshot) -> Value {
    let id = snapshot.identity();
    let tls = snapshot.tls();
    let segments: Vec<_> = snapshot
        .segments()
        .iter()
        .map(|segment| {
            json!({
                "address": segment.start.0, "size": segment.size, "file_offset": segment.file_offset,
                "file_size": segment.file_size, "access": access(segment.access),
            })
        })
        .collect();
    let thread_locals = snapshot.len() - snapshot.addressed();
    json!({
        "format": format(id.format),
        "machine": machine(id.machine),
        "kind": kind(snapshot.kind()),
        "key": { "what": key(&id.key), "value": id.key.to_string(), "address": id.key_at.map(|at| at.0) },
        "size": id.size,
        "stripped": snapshot.is_stripped(),
        "segments": segments,
        "thread_local_block": { "size": tls.size, "align": tls.align, "address": tls.start.0 },
        "counts": {
            "symbols": snapshot.len(), "functions": snapshot.functions(), "thread_locals": thread_locals,
            "units": snapshot.units(),
        },
        "units": (1..=snapshot.units()).map(|unit| snapshot.unit_name(unit)).collect::<Vec<_>>(),
        "imports": snapshot.import_names().collect::<Vec<_>>(),
    })
}

fn symbol_facts(snapshot: &Snapshot, symbol: &BinarySymbol) -> Value {
    let mut facts = json!({
        "name": snapshot.name(symbol), "address": symbol.addr.0, "size": symbol.size,
        "kind": symbol_kind(symbol.kind), "binding": binding(symbol.binding), "unit": symbol.unit,
    });
    if let (SymbolKind::Function, Some(shape)) = (symbol.kind, snapshot.entry_shape(symbol.addr)) {
        facts["room"] = json!(shape.room);
        facts["shared"] = json!(shape.shared);
    }
    facts
}

fn format(format: Format) -> &'static str {
    match format {
        Format::Elf => "ELF",
        Format::MachO => "Mach-O",
    }
}

fn machine(machine: Machine) -> &'static str {
    match machine {
        Machine::X86_64 => "x86-64",
        Machine::Aarch64 => "aarch64",
    }
}

fn kind(kind: Kind) -> &'static str {
    match kind {
        Kind::FixedExecutable => "executable at a fixed address",
        Kind::Executable => "executable",
        Kind::SharedLibrary => "shared library",
    }
}

fn key(key: &Key) -> &'static str {
    match key {
        Key::BuildId(_) => "build-id",
        Key::Uuid(_) => "uuid",
        Key::Contents(_) => "xxh3-128",
    }
}

fn symbol_kind(kind: SymbolKind) -> &'static str {
    match kind {
        SymbolKind::Function => "function",
        SymbolKind::Object => "data",
        SymbolKind::Tls => "tls",
        SymbolKind::Unsaid => "unsaid",
        SymbolKind::Section | SymbolKind::File | SymbolKind::Unknown(_) => "unknown",
    }
}

fn binding(binding: Binding) -> &'static str {
    match binding {
        Binding::Local => "local",
        Binding::Global => "global",
        Binding::Weak => "weak",
    }
}

/// `r-x` and the like.
fn access(access: Access) -> String {
    [(access.read, 'r'), (access.write, 'w'), (access.execute, 'x')]
        .map(|(is, letter)| if is { letter } else { '-' })
        .iter()
        .collect()
}
