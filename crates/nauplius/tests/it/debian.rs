//! Images of Debian's software, made by the test: packages come from the machine's own mirror and are unpacked, not installed; the
//! archive is written by hand in the form of `docker save`, so that loading it is tested on other people's format.

use serde_json::json;
use std::path::{Path, PathBuf};
use std::process::Command;

/// What only installing needs, or nobody in these images: found by the beginning of the package's name.
const UNNEEDED: &[&str] = &[
    "adduser",
    "apt",
    "debconf",
    "debianutils",
    "dpkg",
    "init-system-helpers",
    "iproute2",
    "libc-l10n",
    "libllvm",
    "libperl",
    "libz3",
    "locales",
    "openssl",
    "passwd",
    "perl",
    "ssl-cert",
    "sysvinit-utils",
    "tar",
    "ucf",
    "usrmerge",
];
/// Paths that no program reads.
const UNREAD: &[&str] =
    &["./usr/share/doc*", "./usr/share/man*", "./usr/share/locale*", "./usr/lib/postgresql/*/lib/bitcode"];

/// Debian's packages, as this machine's apt can fetch them.
pub struct Debian {
    scratch: PathBuf,
}

/// What an image is made of.
pub struct Recipe<'a> {
    /// `nauplius.local/NAME:1`
    pub name: &'a str,
    /// Packages; what they depend on comes with them.
    pub packages: &'a [&'a str],
    /// Files of the test's own: path, mode and content.
    pub files: &'a [(&'a str, u32, &'a str)],
}

fn run(command: &mut Command) -> Result<String, String> {
    let output = command.output().map_err(|error| format!("{command:?}: {error}"))?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let last = String::from_utf8_lossy(&output.stderr).lines().last().unwrap_or_default().to_owned();
    Err(format!("{}: {last}", command.get_program().to_string_lossy()))
}

fn must(command: &mut Command) -> String {
    run(command).unwrap_or_else(|error| panic!("{error}"))
}

impl Debian {
    /// Fetches the packages of these recipes.
    ///
    /// # Errors
    /// Why apt cannot.
    pub fn fetch(scratch: &Path, recipes: &[Recipe<'_>]) -> Result<Self, String> {
        let debian = Self { scratch: scratch.to_owned() };
        std::fs::create_dir_all(debian.archives().join("partial")).unwrap();
        // As on a machine where nothing is installed: so everything that is needed is fetched.
        std::fs::write(scratch.join("status"), "").unwrap();
        let packages: Vec<&str> = recipes.iter().flat_map(|recipe| recipe.packages).copied().collect();
        if let Err(first) = run(debian.apt(&["install", "--download-only"]).args(&packages)) {
            // The lists may be missing or old.
            run(Command::new("apt-get").args(["update", "-qq"]))
                .map_err(|error| format!("{first}; {error}"))?;
            run(debian.apt(&["install", "--download-only"]).args(&packages))?;
        }
        Ok(debian)
    }

    fn archives(&self) -> PathBuf {
        self.scratch.join("archives")
    }

    fn apt(&self, arguments: &[&str]) -> Command {
        let mut apt = Command::new("apt-get");
        apt.args(["-qq", "-y", "--no-install-recommends", "-o", "APT::Sandbox::User=root"]);
        for (option, path) in
            [("Dir::State::status", self.scratch.join("status")), ("Dir::Cache::archives", self.archives())]
        {
            apt.arg("-o").arg(format!("{option}={}", path.display()));
        }
        apt.args(arguments);
        apt
    }

    /// The archives of these packages and of what they need at run time.
    fn closure(&self, packages: &[&str]) -> Vec<PathBuf> {
        // Asked for without a cache, so that each is listed.
        let empty = format!("Dir::Cache::archives={}", self.scratch.join("none").display());
        std::fs::create_dir_all(self.scratch.join("none/partial")).unwrap();
        let listed = must(self.apt(&["install", "--print-uris", "-o", &empty]).args(packages));
        // 'http://.../x.deb' x.deb size digest
        let names = listed.lines().filter_map(|line| line.split(' ').nth(1));
        let needed = names.filter(|name| !UNNEEDED.iter().any(|start| name.starts_with(start)));
        needed.map(|name| self.archives().join(name)).collect()
    }

    /// Builds the image and returns its archive.
    pub fn build(&self, recipe: &Recipe<'_>) -> PathBuf {
        let root = self.scratch.join(recipe.name);
        for directory in
            ["usr/bin", "usr/sbin", "usr/lib", "usr/lib64", "etc", "tmp", "data", "run", "proc", "sys", "dev"]
        {
            std::fs::create_dir_all(root.join(directory)).unwrap();
        }
        for merged in ["bin", "sbin", "lib", "lib64"] {
            std::os::unix::fs::symlink(format!("usr/{merged}"), root.join(merged)).unwrap();
        }
        for package in self.closure(recipe.packages) {
            unpack(&package, &root);
        }
        for (path, mode, content) in recipe.files {
            let path = root.join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(&path, content).unwrap();
            set_mode(&path, *mode);
        }
        set_mode(&root.join("tmp"), 0o1777);
        self.pack(recipe.name, &root)
    }

    fn pack(&self, name: &str, root: &Path) -> PathBuf {
        let parts = self.scratch.join(format!("{name}-parts"));
        std::fs::create_dir_all(&parts).unwrap();
        let layer = parts.join("layer.tar");
        let mut tar = Command::new("tar");
        tar.args(["--numeric-owner", "--sort=name", "-cf"]).arg(&layer).arg("-C").arg(root);
        must(tar.args(UNREAD.iter().map(|path| format!("--exclude={path}"))).arg("."));
        let digest = must(Command::new("sha256sum").arg(&layer));
        let digest = digest.split(' ').next().unwrap();
        let architecture = must(Command::new("dpkg").arg("--print-architecture"));
        let config = json!({
            "architecture": architecture.trim(),
            "os": "linux",
            "config": {"Env": ["PATH=/usr/local/bin:/usr/bin:/usr/sbin:/bin:/sbin"]},
            "rootfs": {"type": "layers", "diff_ids": [format!("sha256:{digest}")]},
        });
        let manifest = json!([{
            "Config": "config.json",
            "RepoTags": [format!("nauplius.local/{name}:1")],
            "Layers": ["layer.tar"],
        }]);
        std::fs::write(parts.join("config.json"), config.to_string()).unwrap();
        std::fs::write(parts.join("manifest.json"), manifest.to_string()).unwrap();
        let archive = self.scratch.join(format!("{name}.tar"));
        let mut tar = Command::new("tar");
        must(tar.arg("-cf").arg(&archive).arg("-C").arg(&parts).args([
            "manifest.json",
            "config.json",
            "layer.tar",
        ]));
        archive
    }
}

fn set_mode(path: &Path, mode: u32) {
    std::fs::set_permissions(path, std::os::unix::fs::PermissionsExt::from_mode(mode)).unwrap();
}

/// What dpkg would put there, and no script of the package is run.
fn unpack(package: &Path, root: &Path) {
    let pipe = "dpkg-deb --fsys-tarfile \"$1\" | tar --keep-directory-symlink -xf - -C \"$2\"";
    must(Command::new("bash").args(["-o", "pipefail", "-c", pipe, "unpack"]).arg(package).arg(root));
}
