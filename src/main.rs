//! The `walgit-fs` program: see [`walgit_fs::cli`].

#![forbid(unsafe_code)]

fn main() -> std::process::ExitCode {
    walgit_fs::cli::main()
}
