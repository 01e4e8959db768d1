//! What a container may do, seen from inside.

use crate::world::*;
use nauplius_cri::v1::security_profile::ProfileType;
use nauplius_cri::v1::*;
use std::collections::BTreeMap;

/// `/proc/self/status` as fields.
fn fields(text: &str) -> BTreeMap<String, String> {
    let pairs = text.lines().filter_map(|line| line.split_once(':'));
    pairs
        .map(|(key, value)| (key.to_owned(), value.split_whitespace().collect::<Vec<_>>().join(" ")))
        .collect()
}

fn profile(kind: ProfileType, path: &str) -> Option<SecurityProfile> {
    Some(SecurityProfile { profile_type: kind.into(), localhost_ref: path.to_owned() })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn capabilities_are_the_chosen_ones() {
    let world = World::new().await;
    let status = "cat /proc/self/status";
    let (_, text) = world.script(status, |_| {}).await;
    let seen = fields(&text);
    for (set, expected) in [
        ("CapEff", "00000000a80425fb"),
        ("CapBnd", "00000000a80425fb"),
        ("CapAmb", "0000000000000000"),
        ("CapInh", "0000000000000000"),
    ] {
        assert_eq!(seen[set], expected, "{set}");
    }
    assert_eq!((seen["NoNewPrivs"].as_str(), seen["Seccomp"].as_str()), ("0", "0"));
    let (_, text) = world
        .script(status, |config| {
            security(config).capabilities = Some(Capability {
                add_capabilities: vec!["NET_ADMIN".to_owned()],
                drop_capabilities: vec!["ALL".to_owned()],
                ..Default::default()
            });
            security(config).no_new_privs = true;
        })
        .await;
    let seen = fields(&text);
    assert_eq!((seen["CapEff"].as_str(), seen["NoNewPrivs"].as_str()), ("0000000000001000", "1"));
    let (_, text) = world
        .script(status, |config| {
            security(config).run_as_user = Some(Int64Value { value: 1000 });
            security(config).capabilities = Some(Capability {
                add_ambient_capabilities: vec!["NET_BIND_SERVICE".to_owned()],
                ..Default::default()
            });
        })
        .await;
    let seen = fields(&text);
    assert_eq!((seen["CapEff"].as_str(), seen["CapAmb"].as_str()), ("0000000000000400", "0000000000000400"));
    let (_, text) = world.script(status, |config| security(config).privileged = true).await;
    let own = fields(&std::fs::read_to_string("/proc/self/status").unwrap());
    assert_eq!(fields(&text)["CapEff"], own["CapBnd"]);
    world.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn users_and_groups_are_the_images() {
    let world = World::new().await;
    let (_, text) = world
        .script("id -u; id -g; id -G; echo $HOME", |config| {
            security(config).run_as_username = "web".to_owned()
        })
        .await;
    assert_eq!(text, "33\n34\n34 50\n/srv\n");
    let (_, text) = world
        .script("id -G", |config| {
            security(config).run_as_username = "web".to_owned();
            security(config).supplemental_groups = vec![3000];
            security(config).set_supplemental_groups_policy(SupplementalGroupsPolicy::Strict);
        })
        .await;
    assert_eq!(text, "34 3000\n");
    let (status, text) = world
        .script("id -u; id -g; id -G; echo x > /dev/stdout", |config| {
            security(config).run_as_user = Some(Int64Value { value: 1000 });
            security(config).run_as_group = Some(Int64Value { value: 2000 });
            security(config).supplemental_groups = vec![3000];
        })
        .await;
    assert_eq!(text, "1000\n2000\n2000 3000\nx\n");
    let user = status.user.unwrap().linux.unwrap();
    assert_eq!((user.uid, user.gid, user.supplemental_groups), (1000, 2000, vec![2000, 3000]));
    world.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn seccomp_filters_are_enforced() {
    let world = World::new().await;
    let probe = "grep -E '^(Seccomp|NoNewPrivs):' /proc/self/status; unshare -U true 2>&1";
    for no_new_privs in [false, true] {
        for uid in [0, 1000] {
            let (_, text) = world
                .script(probe, |config| {
                    security(config).seccomp = profile(ProfileType::RuntimeDefault, "");
                    security(config).no_new_privs = no_new_privs;
                    security(config).run_as_user = Some(Int64Value { value: uid });
                })
                .await;
            let seen = fields(&text);
            assert_eq!(seen["Seccomp"], "2");
            assert_eq!(seen["NoNewPrivs"], u8::from(no_new_privs).to_string());
            assert!(text.contains("Operation not permitted"), "{text}");
        }
    }
    let path = world.root.join("profile.json");
    let json = r#"{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[
        {"names":["mkdir","mkdirat"],"action":"SCMP_ACT_ERRNO","errnoRet":95},
        {"names":["chmod","fchmodat","fchmodat2"],"action":"SCMP_ACT_KILL_PROCESS"}]}"#;
    std::fs::write(&path, json).unwrap();
    let localhost = profile(ProfileType::Localhost, &path.display().to_string());
    let (_, text) = world
        .script("mkdir /tmp/a 2>&1; touch /tmp/b; chmod 0 /tmp/b; echo $?", |config| {
            security(config).seccomp = localhost.clone();
        })
        .await;
    assert!(text.contains("Operation not supported") && text.contains("159"), "{text}");
    let (_, text) =
        world.script(probe, |config| security(config).seccomp = profile(ProfileType::Unconfined, "")).await;
    assert_eq!(fields(&text)["Seccomp"], "0");
    let sandbox = world.sandbox("noprofile").await;
    let mut config = shell("main", "");
    security(&mut config).seccomp = profile(ProfileType::Localhost, "/nosuch.json");
    let error = world.create(&sandbox, config).await.unwrap_err();
    assert!(error.message.contains("cannot load seccomp profile \"/nosuch.json\""), "{error}");
    // A command that is executed later has the same filter.
    let mut config = shell("later", "sleep 1000");
    security(&mut config).seccomp = profile(ProfileType::RuntimeDefault, "");
    let id = world.launch(&sandbox, config).await;
    let output = world.exec(&id, probe).await.unwrap();
    assert_eq!(fields(&String::from_utf8_lossy(&output.stdout))["Seccomp"], "2");
    world.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn paths_are_masked_and_read_only() {
    let world = World::new().await;
    let script = "head -c 1 /proc/kcore | cat; ls /proc/scsi /sys/firmware; touch /proc/sys/kernel/domainname 2>&1; \
        echo 1 2>&1 > /proc/sys/net/ipv4/ip_forward; touch /sys/x 2>&1; touch /sys/fs/cgroup/x 2>&1; touch /here && echo writable; \
        ls /sys/fs/cgroup /dev; cat /proc/1/cmdline > /dev/null && echo pid $$";
    let (_, text) = world.script(script, |_| {}).await;
    assert!(text.contains("writable") && text.contains("pid 1"), "{text}");
    assert_eq!(text.matches("Read-only file system").count(), 4, "{text}");
    for name in
        ["null", "zero", "full", "random", "urandom", "tty", "ptmx", "pts", "shm", "mqueue", "fd", "stdin"]
    {
        assert!(text.lines().any(|line| line == name), "{name}: {text}");
    }
    // Nothing is mounted over something else.
    let (_, table) = world.script("cat /proc/self/mountinfo", |_| {}).await;
    let mut points: Vec<_> = table.lines().filter_map(|line| line.split(' ').nth(4)).collect();
    points.sort_unstable();
    let all = points.len();
    points.dedup();
    assert_eq!(points.len(), all, "{table}");
    let (_, text) = world
        .script("touch /here 2>&1; touch /tmp/x 2>&1; touch /dev/shm/x && echo shm", |config| {
            security(config).readonly_rootfs = true;
        })
        .await;
    assert_eq!(text.matches("Read-only file system").count(), 2, "{text}");
    assert!(text.contains("shm"));
    world.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn volumes_are_mounted_as_asked() {
    let world = World::new().await;
    let data = world.root.join("data");
    std::fs::create_dir_all(data.join("sub")).unwrap();
    std::fs::write(data.join("file"), "content\n").unwrap();
    let mount = |path: &str, host: &str, readonly: bool| Mount {
        container_path: path.to_owned(),
        host_path: data.join(host).display().to_string(),
        readonly,
        ..Default::default()
    };
    let image = Mount {
        container_path: "/image".to_owned(),
        image: Some(ImageSpec { image: IMAGE.to_owned(), ..Default::default() }),
        readonly: true,
        ..Default::default()
    };
    let script = "cat /vol/file /one; echo new > /vol/new; touch /ro/x 2>&1; touch /image/x 2>&1; cat /image/etc/group | head -n 1; ls -d /made/by/us; \
        cat /etc/hostname; touch /rro/x 2>&1";
    let rro = Mount { recursive_read_only: true, ..mount("/rro", "", true) };
    let (_, text) = world
        .script(script, |config| {
            config.mounts = vec![
                mount("/ro", "", true),
                mount("/vol", "", false),
                mount("/one", "file", false),
                image,
                rro,
            ];
            config.mounts.push(mount("/made/by/us", "made", false));
        })
        .await;
    assert!(text.starts_with("content\ncontent\n"), "{text}");
    assert_eq!(text.matches("Read-only file system").count(), 3, "{text}");
    assert!(text.contains("root:x:0:\n/made/by/us\n"), "{text}");
    assert_eq!(std::fs::read_to_string(data.join("new")).unwrap(), "new\n");
    world.finish().await;
}

/// Programs read the table of mounts, and know there what runc writes into it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn mounts_are_named_by_what_they_are() {
    let world = World::new().await;
    let (_, text) = world.script("cat /proc/mounts", |_| {}).await;
    let source = |target: &str| {
        let mut lines = text.lines().map(|line| line.split(' ').collect::<Vec<&str>>());
        let line = lines.find(|line| line.get(1) == Some(&target));
        line.map(|line| line[0].to_owned())
    };
    for (target, expected) in [
        ("/", "overlay"),
        ("/proc", "proc"),
        ("/dev", "tmpfs"),
        ("/dev/pts", "devpts"),
        ("/dev/mqueue", "mqueue"),
        ("/dev/shm", "shm"),
        ("/sys", "sysfs"),
    ] {
        assert_eq!(source(target).as_deref(), Some(expected), "{target} in\n{text}");
    }
    let groups = text.lines().filter(|line| line.contains(" /sys/fs/cgroup/"));
    assert!(groups.into_iter().all(|line| line.starts_with("cgroup ")), "{text}");
    assert!(!text.lines().any(|line| line.starts_with("none ")), "{text}");
    world.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_container_cannot_write_our_program() {
    let world = World::new().await;
    let sandbox = world.sandbox("evil").await;
    let id = world.launch(&sandbox, shell("main", "sleep 1000")).await;
    let shim = std::fs::read_to_string(world.root.join("state/sandboxes").join(&sandbox.0).join("shim.pid"))
        .unwrap();
    let program = std::fs::read_link(format!("/proc/{shim}/exe")).unwrap();
    assert!(program.starts_with(world.root.join("state/bin")), "{}", program.display());
    let error = std::fs::OpenOptions::new().write(true).open(&program).unwrap_err();
    assert!(matches!(error.raw_os_error(), Some(libc::EROFS | libc::ETXTBSY)), "{error}");
    // A symbolic link of the image to the host's root leads nowhere outside.
    let seen = world.exec(&id, "ls /proc/1/root/").await.unwrap();
    assert!(!String::from_utf8_lossy(&seen.stdout).contains("boot"));
    world.finish().await;
}
