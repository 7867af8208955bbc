//! Classification by file name.

use super::class::{Class, Format};
use super::language::Language;

/// Maximum length of a known extension, and of a known complete name.
const MAX_KNOWN_LEN: usize = 24;

/// The class that a file name suggests, with or without a path.
pub(super) fn class_by_name(name: &[u8]) -> Option<Class> {
    let file = name.rsplit(|byte| *byte == b'/').next()?;
    let mut lower = [0; MAX_KNOWN_LEN];
    // Complete names: `Dockerfile`, `go.sum`.
    if let Some(whole) = lowercase(file, &mut lower)
        && let Some(class) = by_file_name(whole)
    {
        return Some(class);
    }
    let dot = file.iter().rposition(|byte| *byte == b'.')?;
    let extension = lowercase(&file[dot + 1..], &mut lower)?;
    by_extension(extension)
}

fn lowercase<'a>(name: &[u8], buffer: &'a mut [u8; MAX_KNOWN_LEN]) -> Option<&'a str> {
    let lower = buffer.get_mut(..name.len())?;
    lower.copy_from_slice(name);
    lower.make_ascii_lowercase();
    std::str::from_utf8(lower).ok()
}

fn by_file_name(name: &str) -> Option<Class> {
    if let Some(language) = Language::by_file_name(name) {
        return Some(Class::Code(language));
    }
    Some(match name {
        "readme" | "license" | "licence" | "copying" | "changelog" | "changes" | "authors"
        | "notice" | "news" | "todo" | "install" | "contributors" | "maintainers" => Class::Text,
        "cargo.lock" | "poetry.lock" | "uv.lock" | "pipfile" => Class::Structured(Format::Toml),
        "composer.lock" | "pipfile.lock" | "flake.lock" | ".babelrc" | ".eslintrc" => {
            Class::Structured(Format::Json)
        }
        "pubspec.lock" | "yarn.lock" | ".clang-format" | ".clang-tidy" => {
            Class::Structured(Format::Yaml)
        }
        "go.sum" | "go.mod" | ".gitignore" | ".gitattributes" | ".gitmodules" | ".dockerignore"
        | ".editorconfig" | ".env" | ".npmrc" | "codeowners" | ".mailmap" => {
            Class::Structured(Format::Settings)
        }
        _ => return None,
    })
}

fn by_extension(extension: &str) -> Option<Class> {
    if let Some(language) = Language::by_extension(extension) {
        return Some(Class::Code(language));
    }
    Some(match extension {
        "md" | "markdown" | "mdx" | "txt" | "rst" | "adoc" | "asciidoc" | "tex" | "bib" | "org"
        | "text" | "log" | "po" | "pot" | "srt" | "vtt" | "diff" | "patch" | "rtf" | "ps"
        | "eps" | "man" | "1" | "3" | "5" | "7" | "8" | "pem" | "crt" | "asc" | "snap" => {
            Class::Text
        }
        "json" | "jsonl" | "ndjson" | "json5" | "jsonc" | "geojson" | "ipynb" | "map"
        | "webmanifest" | "har" | "gltf" => Class::Structured(Format::Json),
        "yaml" | "yml" | "cff" => Class::Structured(Format::Yaml),
        "toml" => Class::Structured(Format::Toml),
        "xml" | "svg" | "xsd" | "xsl" | "xslt" | "plist" | "rss" | "atom" | "kml" | "gpx"
        | "csproj" | "vcxproj" | "fsproj" | "props" | "targets" | "resx" | "xaml"
        | "storyboard" | "xib" | "ui" | "qrc" | "pom" | "wsdl" | "dae" | "xlf" | "iml" => {
            Class::Structured(Format::Xml)
        }
        "csv" | "tsv" | "psv" => Class::Structured(Format::Table),
        "ini" | "cfg" | "conf" | "config" | "properties" | "env" | "desktop" | "service"
        | "timer" | "socket" | "reg" | "inf" | "pc" | "lock" => Class::Structured(Format::Settings),
        "sqlite" | "sqlite3" | "db" | "mdb" | "parquet" | "arrow" | "feather" | "orc" | "avro"
        | "h5" | "hdf5" | "npy" | "mat" | "safetensors" | "gguf" | "onnx" | "pb" => {
            Class::Structured(Format::Database)
        }
        "png" | "jpg" | "jpeg" | "jfif" | "gif" | "webp" | "bmp" | "ico" | "icns" | "tif"
        | "tiff" | "avif" | "heic" | "heif" | "jxl" | "jp2" | "psd" | "xcf" | "tga" | "dds"
        | "exr" | "hdr" | "ppm" | "pgm" | "pbm" | "pnm" | "cr2" | "nef" | "dng" | "ktx"
        | "ktx2" => Class::Image,
        "zip" | "gz" | "tgz" | "bz2" | "tbz" | "xz" | "txz" | "zst" | "zstd" | "lz" | "lz4"
        | "lzma" | "br" | "7z" | "rar" | "tar" | "z" | "cab" | "deb" | "rpm" | "apk" | "jar"
        | "war" | "ear" | "whl" | "egg" | "gem" | "crate" | "nupkg" | "vsix" | "crx" | "xpi"
        | "dmg" | "iso" | "cpio" | "ar" | "docx" | "xlsx" | "pptx" | "odt" | "ods" | "odp"
        | "epub" | "npz" | "mp3" | "m4a" | "aac" | "ogg" | "oga" | "opus" | "flac" | "wav"
        | "aif" | "aiff" | "mp4" | "m4v" | "mkv" | "webm" | "mov" | "avi" | "wmv" | "flv"
        | "mpg" | "mpeg" | "woff" | "woff2" | "pack" => Class::Archive,
        "exe" | "dll" | "so" | "dylib" | "a" | "o" | "obj" | "lib" | "bin" | "dat" | "wasm"
        | "class" | "pyc" | "pyd" | "rlib" | "rmeta" | "ttf" | "otf" | "ttc" | "eot" | "pdf"
        | "doc" | "xls" | "ppt" | "dex" | "bc" | "elf" | "img" | "rom" | "der" | "p12" | "gpg"
        | "age" | "idx" | "glb" | "fbx" | "blend" | "stl" | "mo" | "mv" => Class::Binary,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn classifies_by_extension_or_complete_name_regardless_of_case_and_folder() {
        for (name, class) in [
            ("src/main.rs", Some(Class::Code(Language::Rust))),
            ("a.b/MAKEFILE", Some(Class::Code(Language::Make))),
            ("Photo.JPG", Some(Class::Image)),
            ("x.tar.gz", Some(Class::Archive)),
            ("Cargo.lock", Some(Class::Structured(Format::Toml))),
            (".gitignore", Some(Class::Structured(Format::Settings))),
            ("a.rs/what", None),
            ("", None),
            (".", None),
            ("no-ending-at-all-and-a-name-that-is-long", None),
            ("x.an-ending-that-is-longer-than-any", None),
        ] {
            assert_eq!(class_by_name(name.as_bytes()), class, "{name}");
        }
        assert_eq!(
            class_by_name(b"\xff\xfe.rs"),
            Some(Class::Code(Language::Rust))
        );
        assert_eq!(class_by_name(b"a.\xff\xfe"), None);
    }
}
