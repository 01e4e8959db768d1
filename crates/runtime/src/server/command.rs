//! What a container executes: arguments, environment, working directory and stop signal, merged from the image and CRI's config. Pure.

use nauplius_cri::v1::{ContainerConfig, Signal};
use nauplius_images::ImageConfig;

const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// The argument vector; `None` when neither side names a command.
pub(crate) fn arguments(config: &ContainerConfig, image: &ImageConfig) -> Option<Vec<String>> {
    let mut vector = config.command.clone();
    let mut arguments = config.args.clone();
    if vector.is_empty() {
        if arguments.is_empty() {
            arguments.clone_from(&image.cmd);
        }
        if image.entrypoint != [""] {
            vector.clone_from(&image.entrypoint);
        }
    }
    vector.extend(arguments);
    (!vector.is_empty()).then_some(vector)
}

/// `NAME=value` for each variable: defaults, then the image's, then the config's; the last one of a name counts, at the first one's
/// place.
pub(crate) fn environment(
    config: &ContainerConfig,
    image: &ImageConfig,
    hostname: &str,
    home: &str,
) -> Vec<String> {
    let mut variables: Vec<(String, String)> = vec![("PATH".to_owned(), DEFAULT_PATH.to_owned())];
    if config.tty {
        variables.push(("TERM".to_owned(), "xterm".to_owned()));
    }
    variables.push(("HOSTNAME".to_owned(), hostname.to_owned()));
    let from_image = image.env.iter().map(|variable| variable.split_once('=').unwrap_or((variable, "")));
    let from_config = config.envs.iter().map(|variable| (variable.key.as_str(), variable.value.as_str()));
    for (name, value) in from_image.chain(from_config) {
        match variables.iter_mut().find(|(known, _)| known == name) {
            Some((_, known)) => value.clone_into(known),
            None => variables.push((name.to_owned(), value.to_owned())),
        }
    }
    if !variables.iter().any(|(name, _)| name == "HOME") {
        variables.push(("HOME".to_owned(), home.to_owned()));
    }
    variables.into_iter().map(|(name, value)| format!("{name}={value}")).collect()
}

/// The working directory; always absolute.
pub(crate) fn working_directory(config: &ContainerConfig, image: &ImageConfig) -> String {
    let chosen = if config.working_dir.is_empty() { &image.working_dir } else { &config.working_dir };
    if chosen.starts_with('/') { chosen.clone() } else { format!("/{chosen}") }
}

/// The number of the signal that asks the container to stop.
pub(crate) fn stop_signal(config: &ContainerConfig, image: &ImageConfig) -> Result<i32, String> {
    match Signal::try_from(config.stop_signal) {
        Ok(Signal::RuntimeDefault) => match image.stop_signal.as_deref() {
            None | Some("") => Ok(libc::SIGTERM),
            Some(name) => {
                signal_number(name).ok_or_else(|| format!("unknown stop signal {name:?} of the image"))
            }
        },
        Ok(signal) => {
            signal_number(signal.as_str_name()).ok_or_else(|| format!("unknown stop signal {signal:?}"))
        }
        Err(_) => Err(format!("unknown stop signal {}", config.stop_signal)),
    }
}

/// CRI's constant for a signal's number, for the status.
pub(crate) fn signal_constant(number: i32) -> i32 {
    let all = (1..=65).filter_map(|constant| Signal::try_from(constant).ok());
    // The first constant of a number: ABRT for 6, CHLD for 17, IO for 29.
    all.into_iter()
        .find(|signal| signal_number(signal.as_str_name()) == Some(number))
        .map_or(0, |signal| signal as i32)
}

fn signal_number(name: &str) -> Option<i32> {
    if let Ok(number) = name.parse() {
        return (1..=64).contains(&number).then_some(number);
    }
    let upper = name.to_ascii_uppercase();
    let bare = upper.strip_prefix("SIG").unwrap_or(&upper);
    let real_time = |text: &str, marks: [&str; 2]| -> Option<i32> {
        let digits = marks.iter().find_map(|mark| text.strip_prefix(mark))?;
        digits.parse().ok().filter(|offset| (0..=15).contains(offset)) // Not a number is not a signal.
    };
    if let Some(rest) = bare.strip_prefix("RTMIN") {
        return if rest.is_empty() {
            Some(34)
        } else {
            real_time(rest, ["PLUS", "+"]).map(|offset| 34 + offset)
        };
    }
    if let Some(rest) = bare.strip_prefix("RTMAX") {
        return if rest.is_empty() {
            Some(64)
        } else {
            real_time(rest, ["MINUS", "-"]).map(|offset| 64 - offset)
        };
    }
    let table = [
        ("HUP", libc::SIGHUP),
        ("INT", libc::SIGINT),
        ("QUIT", libc::SIGQUIT),
        ("ILL", libc::SIGILL),
        ("TRAP", libc::SIGTRAP),
        ("ABRT", libc::SIGABRT),
        ("IOT", libc::SIGABRT),
        ("BUS", libc::SIGBUS),
        ("FPE", libc::SIGFPE),
        ("KILL", libc::SIGKILL),
        ("USR1", libc::SIGUSR1),
        ("SEGV", libc::SIGSEGV),
        ("USR2", libc::SIGUSR2),
        ("PIPE", libc::SIGPIPE),
        ("ALRM", libc::SIGALRM),
        ("TERM", libc::SIGTERM),
        ("STKFLT", libc::SIGSTKFLT),
        ("CHLD", libc::SIGCHLD),
        ("CLD", libc::SIGCHLD),
        ("CONT", libc::SIGCONT),
        ("STOP", libc::SIGSTOP),
        ("TSTP", libc::SIGTSTP),
        ("TTIN", libc::SIGTTIN),
        ("TTOU", libc::SIGTTOU),
        ("URG", libc::SIGURG),
        ("XCPU", libc::SIGXCPU),
        ("XFSZ", libc::SIGXFSZ),
        ("VTALRM", libc::SIGVTALRM),
        ("PROF", libc::SIGPROF),
        ("WINCH", libc::SIGWINCH),
        ("IO", libc::SIGIO),
        ("POLL", libc::SIGIO),
        ("PWR", libc::SIGPWR),
        ("SYS", libc::SIGSYS),
    ];
    table.iter().find(|(known, _)| *known == bare).map(|(_, number)| *number)
}

#[cfg(test)]
mod tests {
    use super::*;
    use nauplius_cri::v1::KeyValue;

    fn strings(values: &[&str]) -> Vec<String> {
        values.iter().map(|value| (*value).to_owned()).collect()
    }

    #[test]
    fn commands_merge_as_kubernetes_documents() {
        let image =
            ImageConfig { entrypoint: strings(&["e"]), cmd: strings(&["c"]), ..ImageConfig::default() };
        for (command, args, expected) in [
            (&[][..], &[][..], &["e", "c"][..]),
            (&["x"], &[], &["x"]),
            (&[], &["y"], &["e", "y"]),
            (&["x"], &["y"], &["x", "y"]),
        ] {
            let config = ContainerConfig {
                command: strings(command),
                args: strings(args),
                ..ContainerConfig::default()
            };
            assert_eq!(arguments(&config, &image).unwrap(), expected);
        }
        assert_eq!(arguments(&ContainerConfig::default(), &ImageConfig::default()), None);
    }

    #[test]
    fn the_last_variable_wins() {
        let image = ImageConfig { env: strings(&["PATH=/bin", "A=1"]), ..ImageConfig::default() };
        let envs = vec![KeyValue { key: "A".to_owned(), value: "2".to_owned() }];
        let config = ContainerConfig { envs, ..ContainerConfig::default() };
        assert_eq!(
            environment(&config, &image, "pod", "/root"),
            ["PATH=/bin", "HOSTNAME=pod", "A=2", "HOME=/root"]
        );
    }

    #[test]
    fn signals_have_many_spellings() {
        for (name, expected) in [
            ("SIGTERM", 15),
            ("term", 15),
            ("9", 9),
            ("SIGRTMIN+3", 37),
            ("SIGRTMAXMINUS1", 63),
            ("SIGRTMAX", 64),
            ("SIGIOT", 6),
        ] {
            assert_eq!(signal_number(name), Some(expected), "{name}");
        }
        for name in ["", "0", "65", "SIGNOPE", "RTMIN+99"] {
            assert_eq!(signal_number(name), None, "{name}");
        }
        assert_eq!(signal_constant(15), Signal::Sigterm as i32);
        let quit = ImageConfig { stop_signal: Some("SIGQUIT".to_owned()), ..ImageConfig::default() };
        assert_eq!(stop_signal(&ContainerConfig::default(), &quit), Ok(3));
        let custom = ContainerConfig { stop_signal: Signal::Sigusr1 as i32, ..ContainerConfig::default() };
        assert_eq!(stop_signal(&custom, &quit), Ok(10));
    }
}
