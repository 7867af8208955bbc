//! Programming languages, and how they are detected.

/// Declares the languages: number, display name, file name extensions, complete file
/// names, and interpreters in a first line.
macro_rules! languages {
    ($($variant:ident = $number:literal $name:literal [$($extension:literal)*] [$($file:literal)*] [$($interpreter:literal)*])*) => {
        /// A programming language. The numbers may be stored in repositories: never
        /// change one, append new ones.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        #[repr(u8)]
        #[allow(missing_docs)] // The names are self-explanatory.
        pub enum Language {
            $($variant = $number,)*
        }

        impl Language {
            /// All languages.
            pub const ALL: &[Language] = &[$(Language::$variant),*];

            /// Display name.
            pub fn name(self) -> &'static str {
                match self {
                    $(Language::$variant => $name,)*
                }
            }

            /// Language of files with this extension, in lower case and without the dot.
            pub(super) fn by_extension(ending: &str) -> Option<Language> {
                match ending {
                    $($($extension => Some(Language::$variant),)*)*
                    _ => None,
                }
            }

            /// Language of files with this name, in lower case.
            pub(super) fn by_file_name(name: &str) -> Option<Language> {
                match name {
                    $($($file => Some(Language::$variant),)*)*
                    _ => None,
                }
            }

            /// Language of scripts for this interpreter.
            pub(super) fn by_interpreter(program: &str) -> Option<Language> {
                match program {
                    $($($interpreter => Some(Language::$variant),)*)*
                    _ => None,
                }
            }
        }
    };
}

languages! {
    Rust = 0 "Rust" ["rs"] [] ["rust-script"]
    C = 1 "C" ["c" "h"] [] []
    Cpp = 2 "C++" ["cc" "cpp" "cxx" "c++" "hh" "hpp" "hxx" "h++" "inl" "ipp" "tcc"] [] []
    Go = 3 "Go" ["go"] [] []
    Python = 4 "Python" ["py" "pyi" "pyw" "pyx"] ["sconstruct" "wscript"] ["python" "python2" "python3" "pypy"]
    JavaScript = 5 "JavaScript" ["js" "mjs" "cjs" "jsx"] ["jakefile"] ["node" "deno" "bun"]
    TypeScript = 6 "TypeScript" ["ts" "mts" "cts" "tsx"] [] ["ts-node"]
    Java = 7 "Java" ["java"] [] []
    Kotlin = 8 "Kotlin" ["kt" "kts"] [] []
    Swift = 9 "Swift" ["swift"] [] []
    ObjectiveC = 10 "Objective-C" ["m" "mm"] [] []
    CSharp = 11 "C#" ["cs" "csx"] [] []
    FSharp = 12 "F#" ["fs" "fsi" "fsx"] [] []
    Scala = 13 "Scala" ["scala" "sbt" "sc"] [] ["scala"]
    Ruby = 14 "Ruby" ["rb" "rake" "gemspec"] ["rakefile" "gemfile" "podfile" "vagrantfile"] ["ruby"]
    Php = 15 "PHP" ["php" "phtml"] [] ["php"]
    Perl = 16 "Perl" ["pl" "pm" "t" "pod"] [] ["perl"]
    Shell = 17 "shell" ["sh" "bash" "zsh" "fish" "ksh" "bats"] [".bashrc" ".profile" ".zshrc" "configure" "pkgbuild"] ["sh" "bash" "zsh" "dash" "fish" "ksh" "bats"]
    PowerShell = 18 "PowerShell" ["ps1" "psm1" "psd1"] [] ["pwsh"]
    Batch = 19 "batch" ["bat" "cmd"] [] []
    Lua = 20 "Lua" ["lua"] [] ["lua" "luajit"]
    Haskell = 21 "Haskell" ["hs" "lhs" "hsc" "cabal"] [] ["runhaskell"]
    OCaml = 22 "OCaml" ["ml" "mli" "mll" "mly"] ["dune" "dune-project"] ["ocaml"]
    Elixir = 23 "Elixir" ["ex" "exs" "eex" "heex"] [] ["elixir"]
    Erlang = 24 "Erlang" ["erl" "hrl"] ["rebar.config"] ["escript"]
    Clojure = 25 "Clojure" ["clj" "cljs" "cljc" "edn"] [] ["bb"]
    Lisp = 26 "Lisp" ["lisp" "lsp" "el" "scm" "rkt" "asd"] [] ["sbcl" "guile" "racket"]
    Zig = 27 "Zig" ["zig" "zon"] [] []
    Nim = 28 "Nim" ["nim" "nims" "nimble"] [] []
    D = 29 "D" ["d" "di"] [] []
    R = 30 "R" ["r" "rmd"] [] ["rscript"]
    Julia = 31 "Julia" ["jl"] [] ["julia"]
    Dart = 32 "Dart" ["dart"] [] ["dart"]
    Groovy = 33 "Groovy" ["groovy" "gradle"] ["jenkinsfile"] ["groovy"]
    Assembly = 34 "assembly" ["s" "asm" "nasm"] [] []
    Sql = 35 "SQL" ["sql"] [] []
    Html = 36 "HTML" ["html" "htm" "xhtml" "vue" "svelte" "hbs" "ejs" "j2" "jinja" "tmpl"] [] []
    Css = 37 "CSS" ["css" "scss" "sass" "less"] [] []
    Move = 38 "Move" ["move"] [] []
    Solidity = 39 "Solidity" ["sol"] [] []
    Make = 40 "make" ["mk" "mak" "ninja" "bp"] ["makefile" "gnumakefile" "kbuild" "justfile" "makefile.am" "makefile.in"] ["make"]
    CMake = 41 "CMake" ["cmake"] ["cmakelists.txt"] []
    Docker = 42 "Dockerfile" ["dockerfile"] ["dockerfile" "containerfile"] []
    Nix = 43 "Nix" ["nix"] [] []
    Starlark = 44 "Starlark" ["bzl" "star" "bazel" "gn" "gni"] ["build" "workspace" "buck"] []
    Terraform = 45 "Terraform" ["tf" "tfvars" "hcl"] [] []
    Protobuf = 46 "Protocol Buffers" ["proto"] [] []
    GraphQl = 47 "GraphQL" ["graphql" "gql" "graphqls"] [] []
    Thrift = 48 "Thrift" ["thrift" "capnp" "fbs" "idl"] [] []
    Vim = 49 "Vim script" ["vim"] [".vimrc"] []
    Awk = 50 "awk" ["awk"] [] ["awk" "gawk"]
    Tcl = 51 "Tcl" ["tcl"] [] ["tclsh" "wish" "expect"]
    Fortran = 52 "Fortran" ["f" "f90" "f95" "f03" "for"] [] []
    Pascal = 53 "Pascal" ["pas" "pp" "dpr" "lpr"] [] []
    Ada = 54 "Ada" ["adb" "ads"] [] []
    Verilog = 55 "Verilog" ["v" "sv" "svh" "vh" "vhd" "vhdl"] [] []
    Shader = 56 "shader" ["glsl" "vert" "frag" "comp" "hlsl" "wgsl" "metal"] [] []
    Gpu = 57 "GPU code" ["cu" "cuh" "cl"] [] []
    Autoconf = 58 "autoconf" ["m4" "ac"] ["configure.ac" "configure.in"] []
    Linker = 59 "linker script" ["ld" "lds"] [] []
    DeviceTree = 60 "device tree" ["dts" "dtsi"] [] []
    WebAssembly = 61 "WebAssembly text" ["wat" "wast"] [] []
    Proofs = 62 "proofs" ["lean" "agda" "thy" "tla"] [] []
    Kconfig = 63 "Kconfig" [] ["kconfig"] []
}

impl Language {
    /// Language of a script, from the interpreter in its first line:
    /// `#!/usr/bin/env python3`.
    pub(super) fn by_script(head: &[u8]) -> Option<Language> {
        let line = head.strip_prefix(b"#!")?;
        let line = &line[..line.len().min(128)];
        let line = line.split(|byte| *byte == b'\n').next()?;
        let line = std::str::from_utf8(line).ok()?;
        let mut words = line.split_ascii_whitespace();
        let last = |path: &str| path.rsplit('/').next().unwrap_or_default().to_owned();
        let mut program = last(words.next()?);
        if program == "env" {
            let mut rest = words.filter(|word| !word.starts_with('-') && !word.contains('='));
            program = last(rest.next()?);
        }
        program.make_ascii_lowercase();
        // `python3.12` is a version of `python3`.
        let versionless = program.split('.').next().unwrap_or_default();
        Language::by_interpreter(versionless)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn detects_the_language_of_a_script_by_its_first_line() {
        for (line, language) in [
            ("#!/bin/sh\n", Some(Language::Shell)),
            (
                "#! /usr/bin/env python3.12\nimport os",
                Some(Language::Python),
            ),
            (
                "#!/usr/bin/env -S A=1 node --harmony\n",
                Some(Language::JavaScript),
            ),
            ("#!/usr/bin/perl -w", Some(Language::Perl)),
            ("#!/opt/mine/own", None),
            ("#!", None),
            ("# no script", None),
        ] {
            assert_eq!(Language::by_script(line.as_bytes()), language, "{line}");
        }
    }

    #[test]
    fn language_numbers_are_consecutive() {
        for (number, language) in Language::ALL.iter().enumerate() {
            assert_eq!(*language as usize, number);
        }
    }
}
