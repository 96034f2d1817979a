//! The program with the agent in it, started as relive starts programs.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use crate::support::PATIENCE;
use relive_process::LaunchSpec;
use relive_process::agent::{AgentLink, AgentListener};
use relive_process::launch::{AgentSpec, Child, spawn};

/// The agent's directory, below the program's.
const IMAGES: &str = "images";

/// Builds the agent once, the way it is built for users.
pub(crate) fn agent_library() -> &'static Path {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    BUILT.get_or_init(|| {
        let target = Path::new(env!("CARGO_TARGET_TMPDIR")).join("agent");
        let manifest = Path::new(env!("CARGO_MANIFEST_DIR")).join("../relive-agent/Cargo.toml");
        let mut cargo = Command::new(env!("CARGO"));
        cargo.args(["build", "--quiet", "--release", "--manifest-path"]).arg(manifest).arg("--target-dir").arg(&target);
        cargo.env("CARGO_PROFILE_RELEASE_PANIC", "abort").env_remove("RUSTFLAGS").env_remove("RUSTC_WORKSPACE_WRAPPER");
        assert!(cargo.status().is_ok_and(|status| status.success()), "{cargo:?} works");
        target.join("release/librelive_agent.so")
    })
}

/// The program with the agent in it.
pub(crate) struct Guest {
    pub(crate) child: Child,
    pub(crate) dir: PathBuf,
    report: String,
}

impl Guest {
    pub(crate) fn start(preload: Option<&Path>) -> Guest {
        // Long enough that the path of the socket does not fit into a socket's address.
        let dir = crate::support::directory(&format!("guest-{}", "x".repeat(120)));
        let images = dir.join(IMAGES);
        std::fs::create_dir(&images).expect("the directory is ours");
        close_to_others(&images);
        let [report, wait] = ["report", "wait"].map(|name| fifo(&dir.join(name)));
        let program = crate::support::compile("guest", &dir, &[]);
        let mut env: Vec<_> = std::env::vars_os().filter(|(key, _)| key != "LD_PRELOAD").collect();
        env.extend(preload.map(|library| ("LD_PRELOAD".into(), library.into())));
        let args = vec!["report".into(), report.clone().into(), wait.into()];
        let listener = AgentListener::listen(&images).expect("the directory is ours alone");
        let agent = AgentSpec { library: agent_library(), image_dir: &images, listener: &listener };
        let child =
            spawn(&LaunchSpec { program, args, env, ..LaunchSpec::default() }, Some(&agent)).expect("it starts");
        let report = std::fs::read_to_string(&report).expect("the program writes it");
        Guest { child, dir, report }
    }

    /// Where the agent's socket is.
    pub(crate) fn images(&self) -> PathBuf {
        self.dir.join(IMAGES)
    }

    pub(crate) fn connect(&self) -> AgentLink {
        AgentLink::connect(&self.images(), self.child.pid(), PATIENCE, &|| self.child.is_alive())
            .expect("the agent accepts")
    }

    /// Ends the program in its own way.
    pub(crate) fn end(&self) -> i32 {
        drop(std::fs::File::options().write(true).open(self.dir.join("wait")).expect("the program waits there"));
        self.child.wait().expect("it is our child")
    }

    pub(crate) fn lines(&self, start: &str) -> Vec<&str> {
        self.report.lines().filter(|line| line.starts_with(start)).collect()
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        let _ = self.child.signal(9);
        let _ = self.child.wait();
    }
}

pub(crate) fn fifo(path: &Path) -> PathBuf {
    assert!(Command::new("mkfifo").arg(path).status().is_ok_and(|status| status.success()), "mkfifo works");
    path.to_owned()
}

fn close_to_others(dir: &Path) {
    use std::os::unix::fs::PermissionsExt;
    std::fs::set_permissions(dir, std::fs::Permissions::from_mode(0o700)).expect("the directory is ours");
}
