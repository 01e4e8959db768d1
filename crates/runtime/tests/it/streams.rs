//! Exec, attach, terminals and logs.

use crate::world::*;
use nauplius_cri::v1::*;
use nauplius_cri::{Code, RuntimeService};
use nauplius_streaming::{
    Outcome, PortForwardTransport, RemoteCommandClient, RemoteCommandOptions, RemoteCommandTransport, Target,
    TerminalSize, connect_port_forward, connect_remote_command,
};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn commands_run_beside_the_container() {
    let world = World::new().await;
    let sandbox = world.sandbox("exec").await;
    let mut config = shell("main", "sleep 1000");
    config.envs = vec![KeyValue { key: "COLOUR".to_owned(), value: "blue".to_owned() }];
    config.working_dir = "/made/here".to_owned();
    let id = world.launch(&sandbox, config).await;
    let output = world
        .exec(
            &id,
            "echo $COLOUR; cat /proc/1/cmdline; ls -d $(readlink /proc/self/cwd); echo bad >&2; exit 9",
        )
        .await
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout).replace('\0', " ");
    assert!(text.starts_with("blue\n") && text.contains("sleep 1000"), "{text}");
    assert_eq!(output.exit_code, 9);
    assert!(String::from_utf8_lossy(&output.stderr).ends_with("bad\n"));
    // A command's processes are in the container's cgroup and namespaces.
    let big = world.exec(&id, "head -c 20000000 /dev/zero").await.unwrap();
    assert_eq!((big.stdout.len(), big.exit_code), (16 << 20, 0));
    let sync = |command: &[&str], timeout| ExecSyncRequest {
        container_id: id.clone(),
        cmd: command.iter().map(|word| (*word).to_owned()).collect(),
        timeout,
    };
    let error = world.runtime.exec_sync(sync(&["sleep", "77"], 1)).await.unwrap_err();
    assert_eq!(error.code, Code::DeadlineExceeded);
    eventually("the command to be killed", async || {
        processes(|line| line.starts_with("sleep 77")).is_empty().then_some(())
    })
    .await;
    let error = world.runtime.exec_sync(sync(&["nosuch"], 1)).await.unwrap_err();
    let runc = "OCI runtime exec failed: exec failed: unable to start container process: ";
    let reason = format!("{runc}exec: \"nosuch\": executable file not found in $PATH");
    assert_eq!(
        without_id(&error.message),
        format!("failed to exec in container: failed to start exec ID: {reason}")
    );
    let error = world.runtime.exec_sync(sync(&[], 1)).await.unwrap_err();
    let reason = "OCI runtime exec failed: exec failed: args must not be empty";
    assert_eq!(
        without_id(&error.message),
        format!("failed to exec in container: failed to start exec ID: {reason}")
    );
    let daemon = world.exec(&id, "sleep 78 & echo started").await.unwrap();
    assert_eq!((daemon.stdout.as_slice(), daemon.exit_code), (&b"started\n"[..], 0));
    world.stop(&id, 0).await;
    let ended = "container is in CONTAINER_EXITED state";
    let error = world.exec(&id, "true").await.unwrap_err();
    assert_eq!(error.message, format!("failed to exec in container: {ended}"));
    let ask = ExecRequest { container_id: id.clone(), stdout: true, ..Default::default() };
    assert_eq!(world.runtime.exec(ask).await.unwrap_err().message, ended);
    world.finish().await;
}

/// What containerd calls a command by is another each time.
fn without_id(message: &str) -> String {
    let (before, rest) = message.split_once('"').unwrap();
    let (id, after) = rest.split_once('"').unwrap();
    assert!(id.len() == 64 && id.bytes().all(|byte| byte.is_ascii_hexdigit()), "{message}");
    format!("{before}ID{after}")
}

fn target(uri: &http::Uri) -> Target {
    let host = uri.authority().unwrap().to_string();
    Target { uri: uri.path().parse().unwrap(), host, ..Target::default() }
}

async fn connect(url: &str, options: RemoteCommandOptions) -> RemoteCommandClient {
    let uri: http::Uri = url.parse().unwrap();
    let socket = TcpStream::connect(uri.authority().unwrap().as_str()).await.unwrap();
    let target = target(&uri);
    connect_remote_command(socket, target, RemoteCommandTransport::WebSocket, options).await.unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn exec_streams_both_ways() {
    let world = World::new().await;
    let sandbox = world.sandbox("stream").await;
    let id = world.launch(&sandbox, shell("main", "sleep 1000")).await;
    let cmd =
        ["/bin/sh", "-c", "read line; echo got $line; echo bad >&2; cat; exit 4"].map(str::to_owned).to_vec();
    let request = ExecRequest {
        container_id: id.clone(),
        cmd,
        stdin: true,
        stdout: true,
        stderr: true,
        ..Default::default()
    };
    let url = world.runtime.exec(request).await.unwrap().url;
    let options = RemoteCommandOptions { stdin: true, stdout: true, stderr: true, tty: false };
    let mut client = connect(&url, options).await;
    let mut stdin = client.stdin.take().unwrap();
    stdin.write_all(b"one\ntwo\n").await.unwrap();
    stdin.shutdown().await.unwrap();
    let (mut out, mut error) = (String::new(), String::new());
    client.stdout.take().unwrap().read_to_string(&mut out).await.unwrap();
    client.stderr.take().unwrap().read_to_string(&mut error).await.unwrap();
    assert_eq!((out.as_str(), error.as_str()), ("got one\ntwo\n", "bad\n"));
    assert_eq!(client.outcome.outcome().await.unwrap(), Outcome::ExitCode(4));
    let request =
        ExecRequest { container_id: id, cmd: vec!["nosuch".to_owned()], stdout: true, ..Default::default() };
    let missing = world.runtime.exec(request).await.unwrap().url;
    let output = RemoteCommandOptions { stdin: false, stdout: true, stderr: false, tty: false };
    let mut client = connect(&missing, output).await;
    let mut out = String::new();
    client.stdout.take().unwrap().read_to_string(&mut out).await.unwrap();
    let Outcome::Failure(told) = client.outcome.outcome().await.unwrap() else { panic!("it was found") };
    let begin = "Internal error occurred: error executing command in container: failed to exec in container: failed to start exec ID: ";
    let told = without_id(&told);
    assert!(out.is_empty() && told.starts_with(begin) && told.ends_with("not found in $PATH"), "{told}");
    // The token was good once.
    let uri: http::Uri = url.parse().unwrap();
    let socket = TcpStream::connect(uri.authority().unwrap().as_str()).await.unwrap();
    let target = target(&uri);
    assert!(
        connect_remote_command(socket, target, RemoteCommandTransport::WebSocket, options).await.is_err()
    );
    world.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_terminal_is_a_terminal() {
    let world = World::new().await;
    let sandbox = world.sandbox("tty").await;
    let id = world.launch(&sandbox, shell("main", "sleep 1000")).await;
    let cmd = ["/bin/sh", "-c", "read go; stty size; test -t 0 && echo terminal"].map(str::to_owned).to_vec();
    let request =
        ExecRequest { container_id: id, cmd, tty: true, stdin: true, stdout: true, ..Default::default() };
    let url = world.runtime.exec(request).await.unwrap().url;
    let options = RemoteCommandOptions { stdin: true, stdout: true, stderr: false, tty: true };
    let mut client = connect(&url, options).await;
    client.resize.as_mut().unwrap().send(TerminalSize { width: 123, height: 45 }).await.unwrap();
    nauplius_base::time::sleep(std::time::Duration::from_millis(100)).await;
    client.stdin.as_mut().unwrap().write_all(b"go\n").await.unwrap();
    let mut out = String::new();
    client.stdout.take().unwrap().read_to_string(&mut out).await.unwrap();
    assert!(out.contains("45 123\r\n") && out.contains("terminal"), "{out}");
    assert_eq!(client.outcome.outcome().await.unwrap(), Outcome::Success);
    world.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn attached_clients_type_and_watch() {
    let world = World::new().await;
    let sandbox = world.sandbox("attach").await;
    let mut config = shell("main", "while read line; do echo heard $line; done; echo closed");
    (config.stdin, config.stdin_once) = (true, true);
    let id = world.launch(&sandbox, config).await;
    let request = AttachRequest {
        container_id: id.clone(),
        stdin: true,
        stdout: true,
        stderr: true,
        ..Default::default()
    };
    let url = world.runtime.attach(request).await.unwrap().url;
    let options = RemoteCommandOptions { stdin: true, stdout: true, stderr: true, tty: false };
    let mut client = connect(&url, options).await;
    let mut stdin = client.stdin.take().unwrap();
    stdin.write_all(b"me\n").await.unwrap();
    stdin.shutdown().await.unwrap();
    let mut out = String::new();
    client.stdout.take().unwrap().read_to_string(&mut out).await.unwrap();
    assert_eq!(out, "heard me\nclosed\n");
    assert_eq!(world.exited(&id).await.exit_code, 0);
    assert_eq!(world.text("main.log"), "heard me\nclosed\n");
    let mut config = shell("tty", "read line; echo typed $line; stty size");
    (config.stdin, config.tty) = (true, true);
    let id = world.launch(&sandbox, config).await;
    let request = AttachRequest {
        container_id: id.clone(),
        stdin: true,
        stdout: true,
        tty: true,
        ..Default::default()
    };
    let url = world.runtime.attach(request).await.unwrap().url;
    let options = RemoteCommandOptions { stdin: true, stdout: true, stderr: false, tty: true };
    let mut client = connect(&url, options).await;
    client.resize.as_mut().unwrap().send(TerminalSize { width: 90, height: 20 }).await.unwrap();
    nauplius_base::time::sleep(std::time::Duration::from_millis(100)).await;
    client.stdin.as_mut().unwrap().write_all(b"hi\n").await.unwrap();
    let mut out = String::new();
    client.stdout.take().unwrap().read_to_string(&mut out).await.unwrap();
    assert!(out.contains("typed hi\r\n20 90\r\n"), "{out}");
    assert_eq!(world.exited(&id).await.exit_code, 0);
    world.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn logs_are_rotated_without_losing_a_line() {
    let world = World::new().await;
    let sandbox = world.sandbox("rotate").await;
    let id = world
        .launch(
            &sandbox,
            shell("main", "i=0; while [ $i -lt 300 ]; do echo $i; i=$((i+1)); sleep 0.001; done"),
        )
        .await;
    let (log, old) = (world.root.join("logs/main.log"), world.root.join("logs/main.log.old"));
    eventually("some lines", async || (world.log("main.log").lines().count() > 5).then_some(())).await;
    std::fs::rename(&log, &old).unwrap();
    world.runtime.reopen_container_log(ReopenContainerLogRequest { container_id: id.clone() }).await.unwrap();
    world.exited(&id).await;
    let lines = world.text("main.log.old") + &world.text("main.log");
    let expected: String = (0..300).map(|number| format!("{number}\n")).collect();
    assert_eq!(lines, expected);
    assert!(world.log("main.log").lines().count() > 0);
    world.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ports_are_forwarded_into_the_namespace() {
    let world = World::new().await;
    let sandbox = world.sandbox("ports").await;
    let netns = world.root.join("state/sandboxes").join(&sandbox.0).join("ns/net");
    // A listener in the pod's namespace, as a container would have it.
    let listener = std::thread::spawn(move || {
        let file = std::fs::File::open(netns).unwrap();
        // SAFETY: the descriptor is open; the thread ends with this closure.
        assert_eq!(unsafe { libc::setns(std::os::fd::AsRawFd::as_raw_fd(&file), libc::CLONE_NEWNET) }, 0);
        std::net::TcpListener::bind("127.0.0.1:8080").unwrap()
    })
    .join()
    .unwrap();
    let server = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        std::io::Write::write_all(&mut stream, b"from inside").unwrap();
    });
    let request = PortForwardRequest { pod_sandbox_id: sandbox.0.clone(), port: vec![8080] };
    let url = world.runtime.port_forward(request).await.unwrap().url;
    let uri: http::Uri = url.parse().unwrap();
    let socket = TcpStream::connect(uri.authority().unwrap().as_str()).await.unwrap();
    let target = target(&uri);
    let client = connect_port_forward(socket, target, PortForwardTransport::WebSocket).await.unwrap();
    let mut port = client.open(8080).await.unwrap();
    let mut text = String::new();
    port.data.read_to_string(&mut text).await.unwrap();
    assert_eq!(text, "from inside");
    let mut refused = client.open(8081).await.unwrap();
    let message = refused.error().await.unwrap().unwrap();
    assert!(message.contains("8081") && message.contains("refused"), "{message}");
    server.join().unwrap();
    drop((port, refused, client));
    world.finish().await;
}
