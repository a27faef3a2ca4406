//! The layers of `src/lib.rs`, enforced on every file: a module uses only modules of its own or a lower layer, the core is pure, no files of a folder
//! use each other in a circle, every file is formatted, and neither files nor functions are long. What only tests use does not count.

#![expect(clippy::expect_used, reason = "a test's helpers")]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use proc_macro2::{TokenStream, TokenTree};
use syn::visit::{self, Visit};

/// The modules, lowest layer first. Modules of one layer may not use each other, except in layer 0.
const LAYERS: &[&[&str]] = &[
    &["time", "seed", "simd", "stream", "stats"],
    &["record", "nn"],
    &["model"],
    &["alert"],
    &["detect"],
    &["train"],
    &["pipeline"],
    &["port"],
    &["trainer"],
    &["worker"],
    &["store", "https"],
    &["kafka"],
    &["notify", "telemetry"],
    &["config"],
    &["tools", "service"],
    &["backtest"],
    &["demo"],
    &["cli"],
];

/// The highest layer that is the pure core: no I/O, clock, thread, metric or log.
const CORE: usize = 6;

/// What the core must not name.
const IMPURE: &[&str] = &[
    "std::fs",
    "std::net",
    "std::thread",
    "std::env",
    "std::time::SystemTime",
    "tracing",
    "prometheus",
    "rdkafka",
    "tokio",
];

/// A module's path: `["model", "kinds", "pca"]`.
type Module = Vec<String>;

/// What one file says.
#[derive(Debug, Default)]
struct Source {
    /// The paths that it names, as written, with the module inside the file that names them.
    uses: Vec<(Module, Module)>,
    /// What it hands on under another path: the name, and what is meant.
    reexports: Vec<(String, Module)>,
}

/// Collects the paths of a file, without what is for tests only.
#[derive(Debug, Default)]
struct Collector {
    source: Source,
    inner: Module,
}

impl Collector {
    fn add(&mut self, path: Module) {
        if path.len() > 1 {
            self.source.uses.push((self.inner.clone(), path));
        }
    }

    /// Paths in the tokens of a macro's call.
    fn tokens(&mut self, tokens: TokenStream) {
        let mut path = Module::new();
        let mut colons = 0;
        for token in tokens {
            match token {
                TokenTree::Ident(ident) if path.is_empty() || colons == 2 => {
                    path.push(ident.to_string());
                    colons = 0;
                }
                TokenTree::Punct(punct) if punct.as_char() == ':' => colons += 1,
                other => {
                    self.add(std::mem::take(&mut path));
                    colons = 0;
                    match other {
                        TokenTree::Group(group) => self.tokens(group.stream()),
                        TokenTree::Ident(ident) => path.push(ident.to_string()),
                        _ => {}
                    }
                }
            }
        }
        self.add(path);
    }
}

/// The paths that a `use` brings in, and the names that they have then.
fn leaves(tree: &syn::UseTree, before: &Module, into: &mut Vec<(String, Module)>) {
    let with = |name: String| {
        let mut path = before.clone();
        if name != "self" || path.is_empty() {
            path.push(name);
        }
        path
    };
    match tree {
        syn::UseTree::Path(path) => leaves(&path.tree, &with(path.ident.to_string()), into),
        syn::UseTree::Name(name) => {
            let path = with(name.ident.to_string());
            into.push((path.last().cloned().unwrap_or_default(), path));
        }
        syn::UseTree::Rename(name) => {
            into.push((name.rename.to_string(), with(name.ident.to_string())));
        }
        syn::UseTree::Glob(_) => into.push(("*".to_owned(), before.clone())),
        syn::UseTree::Group(group) => {
            for tree in &group.items {
                leaves(tree, before, into);
            }
        }
    }
}

/// Whether something is compiled for tests only.
fn for_tests(attributes: &[syn::Attribute]) -> bool {
    attributes.iter().any(|attribute| {
        attribute.path().is_ident("cfg")
            && attribute
                .parse_args::<syn::Ident>()
                .is_ok_and(|ident| ident == "test")
    })
}

fn attributes(item: &syn::Item) -> &[syn::Attribute] {
    match item {
        syn::Item::Const(item) => &item.attrs,
        syn::Item::Enum(item) => &item.attrs,
        syn::Item::Fn(item) => &item.attrs,
        syn::Item::Impl(item) => &item.attrs,
        syn::Item::Mod(item) => &item.attrs,
        syn::Item::Static(item) => &item.attrs,
        syn::Item::Struct(item) => &item.attrs,
        syn::Item::Trait(item) => &item.attrs,
        syn::Item::Type(item) => &item.attrs,
        syn::Item::Use(item) => &item.attrs,
        _ => &[],
    }
}

impl<'a> Visit<'a> for Collector {
    fn visit_item(&mut self, item: &'a syn::Item) {
        if !for_tests(attributes(item)) {
            visit::visit_item(self, item);
        }
    }

    fn visit_impl_item_fn(&mut self, item: &'a syn::ImplItemFn) {
        if !for_tests(&item.attrs) {
            visit::visit_impl_item_fn(self, item);
        }
    }

    fn visit_item_mod(&mut self, item: &'a syn::ItemMod) {
        self.inner.push(item.ident.to_string());
        visit::visit_item_mod(self, item);
        self.inner.pop();
    }

    fn visit_item_use(&mut self, item: &'a syn::ItemUse) {
        let mut found = Vec::new();
        leaves(&item.tree, &Module::new(), &mut found);
        let private = matches!(item.vis, syn::Visibility::Inherited);
        for (name, path) in found {
            if private || name == "*" {
                self.add(path);
            } else {
                self.source.reexports.push((name, path));
            }
        }
    }

    fn visit_path(&mut self, path: &'a syn::Path) {
        let names = path.segments.iter().map(|part| part.ident.to_string());
        self.add(names.collect());
        visit::visit_path(self, path);
    }

    fn visit_macro(&mut self, call: &'a syn::Macro) {
        self.tokens(call.tokens.clone());
        visit::visit_macro(self, call);
    }
}

fn parsed(text: &str) -> syn::File {
    syn::parse_file(text).expect("the compiler reads it, too")
}

fn collected(file: &syn::File) -> Source {
    let mut collector = Collector::default();
    collector.visit_file(file);
    collector.source
}

fn read(text: &str) -> Source {
    collected(&parsed(text))
}

/// Every file below a folder.
fn files(folder: &Path, into: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).expect("a folder can be read") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            files(&path, into);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            into.push(path);
        }
    }
}

/// The module of a file below src.
fn module(path: &Path, src: &Path) -> Module {
    let relative = path.strip_prefix(src).expect("below src");
    let mut module: Module = relative
        .with_extension("")
        .components()
        .map(|part| part.as_os_str().to_string_lossy().into_owned())
        .collect();
    if module.last().is_some_and(|last| last == "mod") {
        module.pop();
    }
    module
}

/// All modules and what they say, those that are for tests only left out.
fn sources() -> BTreeMap<Module, Source> {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut all = Vec::new();
    files(&src, &mut all);
    let mut tests_only: Vec<Module> = Vec::new();
    let mut found = BTreeMap::new();
    for path in all {
        let file = parsed(&fs::read_to_string(&path).expect("a text"));
        let module = module(&path, &src);
        for item in &file.items {
            if let syn::Item::Mod(item) = item
                && for_tests(&item.attrs)
            {
                let mut only = module.clone();
                only.push(item.ident.to_string());
                tests_only.push(only);
            }
        }
        if module != ["lib"] && module != ["main"] {
            found.insert(module, collected(&file));
        }
    }
    found.retain(|module, _| !tests_only.iter().any(|only| module.starts_with(only)));
    found
}

/// What a path means: from the crate's root, or nothing where it leads out of the crate.
fn absolute(
    all: &BTreeMap<Module, Source>,
    (file, inner): (&Module, &Module),
    path: &Module,
) -> Option<Module> {
    let here: Module = file.iter().chain(inner).cloned().collect();
    let (base, rest): (Module, &[String]) = match path[0].as_str() {
        "crate" => (Module::new(), &path[1..]),
        "self" => (here, &path[1..]),
        "super" => {
            let ups = path.iter().take_while(|part| *part == "super").count();
            (
                here[..here.len().saturating_sub(ups)].to_vec(),
                &path[ups..],
            )
        }
        child => {
            let mut module = file.clone();
            module.push(child.to_owned());
            all.get(&module)?;
            (file.clone(), &path[..])
        }
    };
    Some(base.into_iter().chain(rest.iter().cloned()).collect())
}

/// The file that has what is meant by a path, followed through what is handed on.
fn file_of(all: &BTreeMap<Module, Source>, mut path: Module) -> Option<Module> {
    'follow: for _ in 0..8 {
        for length in (1..=path.len()).rev() {
            let start = path[..length].to_vec();
            if all.contains_key(&start) {
                return Some(start);
            }
            let (parent, name) = (path[..length - 1].to_vec(), &path[length - 1]);
            let handed_on = all
                .get(&parent)
                .and_then(|source| source.reexports.iter().find(|(known, _)| known == name));
            if let Some((_, target)) = handed_on {
                let mut target = absolute(all, (&parent, &Module::new()), target)?;
                target.extend_from_slice(&path[length..]);
                path = target;
                continue 'follow;
            }
        }
        return None;
    }
    None
}

/// Which files use which.
fn edges(all: &BTreeMap<Module, Source>) -> BTreeMap<&Module, BTreeSet<Module>> {
    all.iter()
        .map(|(file, source)| {
            let used = source
                .uses
                .iter()
                .filter_map(|(inner, path)| file_of(all, absolute(all, (file, inner), path)?))
                .filter(|used| used != file)
                .collect();
            (file, used)
        })
        .collect()
}

/// Groups of files each of which reaches all others of its group.
fn circles(edges: &BTreeMap<&Module, BTreeSet<Module>>) -> Vec<Vec<String>> {
    let reached: BTreeMap<&Module, BTreeSet<&Module>> = edges
        .keys()
        .map(|file| {
            let mut seen = BTreeSet::new();
            let mut next: Vec<&Module> = edges[*file].iter().collect();
            while let Some(module) = next.pop() {
                if seen.insert(module) {
                    next.extend(edges.get(module).into_iter().flatten());
                }
            }
            (*file, seen)
        })
        .collect();
    let mut found = BTreeSet::new();
    for (file, seen) in &reached {
        if seen.contains(file) {
            let group: Vec<String> = seen
                .iter()
                .filter(|other| reached.get(*other).is_some_and(|back| back.contains(file)))
                .map(|module| module.join("::"))
                .collect();
            found.insert(group);
        }
    }
    found.into_iter().collect()
}

fn layer(module: &str) -> Option<usize> {
    LAYERS.iter().position(|layer| layer.contains(&module))
}

/// What is wrong with what one file says: upward uses, unknown modules, impurities.
fn problems(file: &Module, source: &Source) -> Vec<String> {
    let (name, own) = (file.join("::"), layer(&file[0]));
    let Some(own) = own else {
        return vec![format!("module `{}` is in no layer", file[0])];
    };
    let mut found = Vec::new();
    let reexports = source.reexports.iter().map(|(_, path)| path);
    for path in source.uses.iter().map(|(_, path)| path).chain(reexports) {
        if path[0] == "crate" && path.len() > 1 && path[1] != file[0] {
            match layer(&path[1]) {
                Some(theirs) if theirs < own || (theirs == own && own == 0) => {}
                Some(_) => found.push(format!("{name} uses `{}`, which is not below", path[1])),
                None => {}
            }
        }
        let text = path.join("::");
        let impure = |word: &&&str| text == **word || text.starts_with(&format!("{word}::"));
        let named = IMPURE.iter().find(impure);
        if let Some(word) = named.filter(|_| own <= CORE && file[0] != "time") {
            found.push(format!("{name} names `{word}`, but the core is pure"));
        }
        if path.iter().any(|part| part == "SystemClock") && own <= CORE && file[0] != "time" {
            found.push(format!("{name} reads the clock, but the core is pure"));
        }
    }
    found
}

#[test]
fn every_module_uses_only_layers_below_it() {
    let found: Vec<String> = sources()
        .iter()
        .flat_map(|(file, source)| problems(file, source))
        .collect();
    assert!(found.is_empty(), "{}", found.join("\n"));
}

#[test]
fn no_files_use_each_other_in_a_circle() {
    let all = sources();
    let found = circles(&edges(&all));
    let texts: Vec<String> = found.iter().map(|circle| format!("{circle:?}")).collect();
    assert!(found.is_empty(), "circles:\n{}", texts.join("\n"));
}

#[test]
fn every_file_is_formatted() {
    // What a macro declares, `cargo fmt` does not find: every file is asked about by itself.
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut all = Vec::new();
    for folder in ["src", "tests", "benches", "examples"] {
        files(&root.join(folder), &mut all);
    }
    let output = std::process::Command::new("rustfmt")
        .args(["--check", "-l", "--edition", "2024"])
        .args(&all)
        .output();
    let Ok(output) = output else {
        eprintln!("skipped: there is no rustfmt here");
        return;
    };
    let text = String::from_utf8_lossy(&output.stdout);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{text}{errors}");
}

/// Lines of code that a file may have: without tests, comments and empty lines.
const FILE_LINES: usize = 500;

/// Lines that a function may have, from its name to its brace, in tests too.
const FUNCTION_LINES: usize = 70;

/// The line on which an item ends that begins at `start` of formatted text: the next that closes its brace or has its semicolon, as far indented.
fn end_of_item(lines: &[&str], start: usize) -> usize {
    let indent = lines[start].len() - lines[start].trim_start().len();
    let ends =
        |line: &&str| line.len() - line.trim_start().len() == indent && line.ends_with(['}', ';']);
    let after = lines[start..].iter().position(ends);
    after.map_or(lines.len() - 1, |after| start + after)
}

/// How many lines of code a file has.
fn code_lines(text: &str) -> usize {
    let lines: Vec<&str> = text.lines().collect();
    let (mut count, mut next) = (0, 0);
    while next < lines.len() {
        let line = lines[next].trim();
        if line == "#[cfg(test)]" {
            next = end_of_item(&lines, next + 1) + 1;
            continue;
        }
        count += usize::from(!line.is_empty() && !line.starts_with("//"));
        next += 1;
    }
    count
}

/// The functions of a file that are too long, and how long.
fn long_functions(text: &str) -> Vec<String> {
    let lines: Vec<&str> = text.lines().collect();
    let is_function = |line: &str| {
        let words = line.trim_start().split(' ');
        let mut words = words.skip_while(|word| {
            ["pub", "const", "async", "unsafe", "extern"].contains(word)
                || word.starts_with("pub(")
                || word.starts_with('"')
        });
        words.next() == Some("fn")
    };
    let starts = (0..lines.len()).filter(|&line| is_function(lines[line]));
    let each = starts.map(|start| (start, end_of_item(&lines, start) - start + 1));
    each.filter(|(_, count)| *count > FUNCTION_LINES)
        .map(|(start, count)| format!("{count} lines: {}", lines[start].trim()))
        .collect()
}

#[test]
fn no_file_and_no_function_is_long() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut all = Vec::new();
    for folder in ["src", "tests", "benches", "examples", "crates"] {
        files(&root.join(folder), &mut all);
    }
    let mut found = Vec::new();
    for path in all {
        let text = fs::read_to_string(&path).expect("a text");
        let name = path.strip_prefix(root).expect("below the root").display();
        let for_tests = ["tests", "benches"].iter().any(|part| {
            path.components()
                .any(|at| at.as_os_str().to_string_lossy() == *part)
        }) || path.to_string_lossy().ends_with("tests.rs");
        let lines = code_lines(&text);
        if lines > FILE_LINES && !for_tests {
            found.push(format!("{name}: {lines} lines of code"));
        }
        found.extend(
            long_functions(&text)
                .iter()
                .map(|long| format!("{name}: {long}")),
        );
    }
    assert!(found.is_empty(), "{}", found.join("\n"));
}

#[test]
fn what_is_long_is_found() {
    let body = "        call();\n".repeat(FUNCTION_LINES - 2);
    let short = format!("impl A {{\n    pub(super) async fn f(\n    ) {{\n{body}    }}\n}}\n");
    assert_eq!(long_functions(&short).len(), 1);
    let short = format!("impl A {{\n    pub(super) async fn f() {{\n{body}    }}\n}}\n");
    assert!(long_functions(&short).is_empty());
    let text = "//! A.\n\nfn f() {\n    g();\n}\n\n#[cfg(test)]\nmod tests {\n    fn t() {}\n}\n\nfn h() {}\n";
    assert_eq!(code_lines(text), 4);
}

#[test]
fn an_upward_use_and_an_impurity_are_found() {
    let wrong = |module: &str, text: &str| problems(&vec![module.to_owned()], &read(text)).len();
    assert_eq!(wrong("model", "use crate::pipeline::Pipeline;"), 1);
    assert_eq!(wrong("model", "fn f() { crate::kafka::poll() }"), 1);
    assert_eq!(
        wrong("model", "fn f() { assert!(crate::kafka::is_up()) }"),
        1
    );
    assert_eq!(
        wrong("detect", "fn f() { let now = std::thread::current(); }"),
        1
    );
    assert_eq!(wrong("detect", "fn f() { tracing::info!(1); }"), 1);
    assert_eq!(wrong("unheard_of", ""), 1);
    assert_eq!(wrong("pipeline", "use crate::model::Model;"), 0);
    // Beyond what is for tests, reading goes on.
    let text = "#[cfg(test)] use crate::kafka::A; #[cfg(test)] mod tests { use crate::cli::B; } use crate::worker::C;";
    assert_eq!(wrong("model", text), 1);
}

#[test]
fn a_circle_is_found_through_what_is_handed_on() {
    let file = |name: &[&str], text: &str| -> (Module, Source) {
        (
            name.iter().map(|part| (*part).to_owned()).collect(),
            read(text),
        )
    };
    let all = BTreeMap::from([
        file(&["m"], "mod a; mod b; mod c; pub use a::A; pub use b::B;"),
        file(&["m", "a"], "use super::B; pub struct A(B);"),
        file(&["m", "b"], "pub struct B; fn f() { g!(crate::m::A) }"),
        file(&["m", "c"], "use super::{A, B};"),
    ]);
    assert_eq!(circles(&edges(&all)), [["m::a", "m::b"]]);
}
