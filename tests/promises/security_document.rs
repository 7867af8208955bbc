//! The tests that `contrib/SECURITY.md` names exist.

use std::fs;
use std::path::Path;

#[test]
fn every_promise_names_an_existing_test() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let text = fs::read_to_string(root.join("contrib/SECURITY.md")).unwrap();
    let mut named = 0;
    for name in text.split('`').skip(1).step_by(2) {
        let (file, test) = match name.rsplit_once("::") {
            Some((module, test)) => (module.replace("::", "/"), Some(test)),
            None => (name.to_owned(), None),
        };
        // A path in the project, or a file or directory in `tests/promises`.
        let promise = root.join("tests/promises").join(&file);
        let candidates = [
            root.join(&file),
            promise.with_extension("rs"),
            promise.join("mod.rs"),
        ];
        let Some(path) = candidates.iter().find(|path| path.exists()) else {
            assert!(test.is_none(), "`{name}`: the file does not exist");
            continue;
        };
        let Some(test) = test else { continue };
        let source = fs::read_to_string(path).unwrap();
        assert!(
            source.contains(&format!("fn {test}(")),
            "`{name}` does not exist"
        );
        named += 1;
    }
    assert!(named > 20, "{named} tests are named");
}
