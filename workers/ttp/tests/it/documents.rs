//! Every project document that is shown or shipped is one: the examples of the documentation, and those of `tests/projects`.

use crate::real::top;
use std::fs;
use zegel_ttp::{CompiledProject, ProjectDocument};

#[test]
fn the_examples_of_the_documentation_are_documents() {
    let text = fs::read_to_string(top().join("docs/formats.md")).unwrap();
    let examples: Vec<_> = text.split("```toml\n").skip(1).map(|part| part.split("```").next().unwrap()).collect();
    assert!(examples.len() >= 3);
    for example in examples {
        let document = ProjectDocument::parse(example).unwrap_or_else(|error| panic!("{error}: {example}"));
        CompiledProject::new(document, &[7; 32]).unwrap();
    }
}

#[test]
fn every_shipped_document_is_one() {
    let entries: Vec<_> =
        fs::read_dir(top().join("tests/projects")).unwrap().map(|entry| entry.unwrap().path()).collect();
    assert!(entries.len() > 30);
    for path in entries {
        let document = ProjectDocument::parse(&fs::read_to_string(&path).unwrap());
        let document = document.unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        assert_eq!(Some(document.name.as_str()), path.file_stem().and_then(|name| name.to_str()));
    }
}
