//! What each tool finds in each language, on small sources whose answer can be read off.

use serde_json::{Value, json};

use crate::client::{Client, each, folder};

const RUST: &str = r#"//! needle in a comment
mod inner {
    pub const LIMIT: usize = 3;
    pub static NAME: &str = "needle";
}
pub struct Shop<T> {
    items: Vec<T>,
}
struct Pair(u8, u8);
enum Color { Red, Green }
union Bits { a: u32 }
type Alias = Shop<u8>;
pub trait Sell {
    type Price;
    fn sell(&self) -> u32;
}
impl<T> Sell for Shop<T> {
    type Price = u32;
    fn sell(&self) -> u32 {
        let needle = 1;
        const LOCAL: u32 = 2;
        unsafe { needle + LOCAL }
    }
}
macro_rules! make { () => {} }
fn long(
    first: u32,
    second: u32,
) -> u32 {
    fn nested() {}
    println!("{}", needle(first));
    second
}
"#;

const PYTHON: &str = r#"# needle in a comment
LIMIT = 3
name = "needle"

class Shop(Base):
    size: int = 1

    @property
    def sell(self, needle=1):
        local = needle
        return f"{needle}"

async def run():
    def nested():
        pass
    try:
        pass
    except Exception:
        pass

type Alias = int
"#;

const JAVASCRIPT: &str = r#"// needle in a comment
const LIMIT = 3, other = "needle";
let count = 0;
class Shop extends Base {
  #secret = 1;
  static handler = () => 1;
  constructor() { super(); }
  sell(needle) { const local = needle; return `${needle}`; }
}
function run() { function nested() {} }
function* steps() {}
const arrow = (a) => a;
const Named = class { inside() {} };
exports.needle = function () {};
const table = { first() {}, second: () => 2 };
"#;

const TYPESCRIPT: &str = r#"// needle in a comment
export interface Sell { price: number; sell(needle: string): void; }
export abstract class Shop<T> implements Sell {
  price = 1;
  handler = (): number => 1;
  abstract open(): void;
  sell(needle: string): void {}
}
enum Color { Red, Green }
type Alias = Shop<number>;
namespace Inner { export const LIMIT = 3; }
declare function outside(a: number): void;
export function needle<T>(a: T): T { return a; }
const text = "needle";
"#;

const TSX: &str = r#"export function View(props: { needle: string }) {
  return <div title="needle">{props.needle}</div>;
}
const Small = () => <View needle="x" />;
"#;

const GO: &str = r#"package shop

// needle in a comment
const Limit, Other = 3, 4

var Name = "needle"

type Shop[T any] struct {
	items []T
}

type Seller interface {
	Sell(needle int) int
}

type Alias = int
type Count int

func (s *Shop[T]) Sell(needle int) int {
	const local = 1
	var inner = needle
	return inner
}

func needle() {
	go func() {}()
}
"#;

const SOURCES: [(&str, &str); 6] = [
    ("rust", RUST),
    ("python", PYTHON),
    ("javascript", JAVASCRIPT),
    ("typescript", TYPESCRIPT),
    ("tsx", TSX),
    ("go", GO),
];

fn source(language: &str) -> &'static str {
    SOURCES.iter().find(|(name, _)| *name == language).expect("each language has a source").1
}

async fn client() -> (Client, tempfile::TempDir) {
    let folder = folder(&[]);
    (Client::over(folder.path()).await, folder)
}

/// `kind name` of each definition, indented by its depth.
fn drawn(items: &Value, depth: usize, into: &mut Vec<String>) {
    for item in items.as_array().into_iter().flatten() {
        let (kind, name) = (item["kind"].as_str().expect("a kind"), item["name"].as_str().expect("a name"));
        into.push(format!("{}{kind} {name}", "  ".repeat(depth)));
        drawn(&item["children"], depth + 1, into);
    }
}

async fn outline(language: &str) -> Vec<String> {
    let (mut client, _folder) = client().await;
    let called = client.good("outline", json!({ "text": source(language), "language": language })).await;
    let mut lines = Vec::new();
    drawn(&called.structured["files"][0]["items"], 0, &mut lines);
    lines
}

#[tokio::test]
async fn rust_is_outlined() {
    let expected = [
        "module inner",
        "  constant LIMIT",
        "  variable NAME",
        "struct Shop",
        "struct Pair",
        "enum Color",
        "union Bits",
        "type Alias",
        "trait Sell",
        "  type Price",
        "  method sell",
        "impl Shop",
        "  type Price",
        "  method sell",
        "macro make",
        "function long",
        "  function nested",
    ];
    assert_eq!(outline("rust").await, expected);
}

#[tokio::test]
async fn python_is_outlined() {
    let expected = [
        "constant LIMIT",
        "variable name",
        "class Shop",
        "  variable size",
        "  method sell",
        "function run",
        "  function nested",
        "type Alias",
    ];
    assert_eq!(outline("python").await, expected);
}

#[tokio::test]
async fn javascript_is_outlined() {
    let expected = [
        "constant LIMIT",
        "constant other",
        "variable count",
        "class Shop",
        "  method handler",
        "  method constructor",
        "  method sell",
        "function run",
        "  function nested",
        "function steps",
        "function arrow",
        "class Named",
        "  method inside",
        "function needle",
        "constant table",
        "  method first",
        "  method second",
    ];
    assert_eq!(outline("javascript").await, expected);
}

#[tokio::test]
async fn typescript_is_outlined() {
    let expected = [
        "interface Sell",
        "  method sell",
        "class Shop",
        "  method handler",
        "  method open",
        "  method sell",
        "enum Color",
        "type Alias",
        "module Inner",
        "  constant LIMIT",
        "function outside",
        "function needle",
        "constant text",
    ];
    assert_eq!(outline("typescript").await, expected);
}

#[tokio::test]
async fn tsx_is_outlined() {
    assert_eq!(outline("tsx").await, ["function View", "function Small"]);
}

#[tokio::test]
async fn go_is_outlined() {
    let expected = [
        "constant Limit",
        "constant Other",
        "variable Name",
        "struct Shop",
        "interface Seller",
        "  method Sell",
        "type Alias",
        "type Count",
        "method Sell",
        "function needle",
    ];
    assert_eq!(outline("go").await, expected);
}

#[tokio::test]
async fn an_outline_tells_lines_and_the_signature_up_to_the_body() {
    let (mut client, _folder) = client().await;
    let outline = client.good("outline", json!({ "text": RUST, "language": "rust" })).await;
    let items = &outline.structured["files"][0]["items"];
    let by_name = |name: &str| items.as_array().unwrap().iter().find(|item| item["name"] == name).unwrap();
    let long = by_name("long");
    assert_eq!(long["signature"], "fn long( first: u32, second: u32, ) -> u32");
    assert_eq!((&long["start_line"], &long["end_line"]), (&json!(26), &json!(33)));
    assert_eq!(by_name("Pair")["signature"], "struct Pair(u8, u8)");
    assert_eq!(by_name("Sell")["signature"], "pub trait Sell");
    assert_eq!(by_name("Alias")["signature"], "type Alias = Shop<u8>");
    assert!(outline.text.contains("\n  17-24 impl Shop: impl<T> Sell for Shop<T>\n"), "{}", outline.text);

    let go = client.good("outline", json!({ "text": GO, "language": "go" })).await;
    assert!(go.text.contains("struct Shop: Shop[T any] struct\n"), "{}", go.text);
    assert!(go.text.contains("interface Seller: Seller interface\n"), "{}", go.text);
}

#[tokio::test]
async fn symbols_are_found_by_name_and_kind_in_every_language() {
    let (mut client, _folder) = client().await;
    for (language, kind, name, container) in [
        ("rust", "method", "sell", Some("Sell")),
        ("python", "method", "sell", Some("Shop")),
        ("javascript", "method", "sell", Some("Shop")),
        ("typescript", "constant", "LIMIT", Some("Inner")),
        ("tsx", "function", "Small", None),
        ("go", "method", "Sell", Some("Seller")),
    ] {
        let arguments = json!({
            "text": source(language), "language": language, "name": name, "match": "exact", "kinds": [kind],
        });
        let symbols = client.good("symbols", arguments).await;
        let first = &symbols.structured["symbols"][0];
        assert_eq!(first["name"], name, "{language}: {}", symbols.text);
        assert_eq!(first["kind"], kind, "{language}");
        assert_eq!(first.get("container").and_then(Value::as_str), container, "{language}");
        let (line, column) = (first["line"].as_u64().unwrap() as usize, first["column"].as_u64().unwrap() as usize);
        let at = &source(language).lines().nth(line - 1).unwrap()[column - 1..];
        assert!(at.starts_with(name), "{language}: {at}");
    }
}

#[tokio::test]
async fn a_go_method_is_held_by_its_receiver() {
    let (mut client, _folder) = client().await;
    let symbols =
        client.good("symbols", json!({ "text": GO, "language": "go", "name": "sell", "kinds": ["method"] })).await;
    let containers = each(&symbols.structured["symbols"], "container");
    assert_eq!(containers, ["Seller", "Shop"]);
}

#[tokio::test]
async fn names_are_compared_as_asked() {
    let (mut client, _folder) = client().await;
    let mut names = async |mode: Option<&str>, name: &str| {
        let mut arguments = json!({ "text": "fn ab() {} fn AbC() {} fn cab() {}", "language": "rust", "name": name });
        if let Some(mode) = mode {
            arguments["match"] = mode.into();
        }
        let symbols = client.good("symbols", arguments).await;
        each(&symbols.structured["symbols"], "name").join(" ")
    };
    assert_eq!(names(None, "ab").await, "ab AbC cab");
    assert_eq!(names(Some("substring"), "B").await, "ab AbC cab");
    assert_eq!(names(Some("prefix"), "ab").await, "ab AbC");
    assert_eq!(names(Some("exact"), "ab").await, "ab");
    assert_eq!(names(Some("exact"), "").await, "ab AbC cab");
    assert_eq!(names(None, "nothing").await, "");
}

#[tokio::test]
async fn references_are_found_in_code_only_and_definitions_are_marked() {
    let (mut client, _folder) = client().await;
    for (language, expected) in [
        ("rust", vec!["20:13 definition", "22:18", "31:20"]),
        ("python", vec!["9:20 definition", "10:17", "11:19"]),
        ("javascript", vec!["8:8 definition", "8:32", "8:50", "14:9 definition"]),
        ("typescript", vec!["2:45 definition", "7:8 definition", "13:17 definition"]),
        ("tsx", vec!["1:31 definition", "2:37", "4:27"]),
        ("go", vec!["13:7 definition", "19:24 definition", "21:14", "25:6 definition"]),
    ] {
        let arguments = json!({ "text": source(language), "language": language, "name": "needle" });
        let called = client.good("references", arguments).await;
        let found = called.structured["references"].as_array().unwrap();
        let told: Vec<String> = found
            .iter()
            .map(|one| {
                let mark = if one["definition"] == true { " definition" } else { "" };
                format!("{}:{}{mark}", one["line"], one["column"])
            })
            .collect();
        assert_eq!(told, expected, "{language}: {}", called.text);
        for one in found {
            let line = source(language).lines().nth(one["line"].as_u64().unwrap() as usize - 1).unwrap();
            assert_eq!(one["text"], line.trim(), "{language}");
        }
    }
}

#[tokio::test]
async fn a_reference_is_one_whole_identifier() {
    let (mut client, _folder) = client().await;
    let text = "fn ab() { abc(); ab(); x.ab = ab!(); }";
    let called = client.good("references", json!({ "text": text, "language": "rust", "name": "ab" })).await;
    assert_eq!(called.structured["references"].as_array().unwrap().len(), 4, "{}", called.text);
    for (name, reason) in [("", "one identifier"), ("a b", "one identifier"), ("std::fmt", "last part: `fmt`")] {
        let error = client.bad("references", json!({ "text": text, "language": "rust", "name": name })).await;
        assert!(error.contains(reason), "{error}");
    }
}

#[tokio::test]
async fn queries_capture_in_every_language() {
    let (mut client, _folder) = client().await;
    for (language, query, expected) in [
        ("rust", "(unsafe_block) @unsafe", "unsafe { needle + LOCAL }"),
        ("python", "(except_clause) @except", "except Exception:\n        pass"),
        ("javascript", "(class_heritage (identifier) @base)", "Base"),
        ("typescript", "(implements_clause (type_identifier) @trait)", "Sell"),
        ("tsx", "(jsx_self_closing_element) @element", "<View needle=\"x\" />"),
        ("go", "(go_statement) @go", "go func() {}()"),
    ] {
        let called =
            client.good("query", json!({ "text": source(language), "language": language, "query": query })).await;
        assert_eq!(each(&called.structured["captures"], "text"), [expected], "{language}");
    }
}

#[tokio::test]
async fn captures_of_one_match_belong_together_and_predicates_count() {
    let (mut client, _folder) = client().await;
    let text = "a(1); b(2); a(3);";
    let query =
        r#"((call_expression function: (identifier) @name arguments: (arguments (number) @n)) (#eq? @name "a"))"#;
    let called = client.good("query", json!({ "text": text, "language": "js", "query": query })).await;
    let captures = called.structured["captures"].as_array().unwrap();
    let told: Vec<_> =
        captures.iter().map(|one| format!("{} {} {}", one["match"], one["capture"], one["text"])).collect();
    assert_eq!(told, [r#"0 "name" "a""#, r#"0 "n" "1""#, r#"1 "name" "a""#, r#"1 "n" "3""#]);
    let third = &captures[3];
    let at = ["start_line", "start_column", "end_line", "end_column"].map(|field| third[field].as_u64().unwrap());
    assert_eq!(at, [1, 15, 1, 16]);
    assert_eq!(third["node"], "number");
}

#[tokio::test]
async fn a_query_over_a_folder_reads_only_its_language() {
    let folder = folder(&[("a.rs", "fn a() { unsafe {} }"), ("b.py", "unsafe = 1"), ("c.rs", "fn c() {}")]);
    let mut client = Client::over(folder.path()).await;
    for language in [json!({ "language": "rust" }), json!({ "languages": ["rust"] })] {
        let mut arguments = language;
        arguments["query"] = "(unsafe_block) @unsafe".into();
        let called = client.good("query", arguments).await;
        assert_eq!(each(&called.structured["captures"], "path"), ["a.rs"]);
        assert_eq!(called.structured["files_scanned"], 2);
        assert_eq!(called.text, "a.rs:1:10-1:19 @unsafe: unsafe {}\n");
    }
}

#[tokio::test]
async fn sources_parse_without_errors_and_broken_ones_with_them() {
    let (mut client, _folder) = client().await;
    for (language, good) in SOURCES {
        let parsed = client.good("parse", json!({ "text": good, "language": language })).await;
        assert_eq!(parsed.structured["error_count"], 0, "{language}: {}", parsed.text);
    }
    for (language, broken) in [
        ("rust", "fn f( {"),
        ("python", "def f(:\n  pass"),
        ("javascript", "function ( {"),
        ("typescript", "let x: = 1"),
        ("tsx", "<a><b></a>"),
        ("go", "package p\nfunc {"),
    ] {
        let parsed = client.good("parse", json!({ "text": broken, "language": language })).await;
        assert!(parsed.structured["error_count"].as_u64().unwrap() > 0, "{language}: {}", parsed.text);
        let message = parsed.structured["errors"][0]["message"].as_str().unwrap();
        assert!(message.starts_with("missing `") || message.starts_with("unexpected `"), "{message}");
    }
    let missing = client.good("parse", json!({ "text": "fn f() { let a = 1 }", "language": "rust" })).await;
    assert_eq!(missing.structured["errors"][0]["message"], "missing `;`", "{}", missing.text);
    assert_eq!(missing.structured["errors"][0]["column"], 19);
}

#[tokio::test]
async fn a_syntax_tree_is_written_as_an_s_expression_cut_by_depth() {
    let (mut client, _folder) = client().await;
    let whole = client.good("parse", json!({ "text": "fn f() {}", "language": "rust" })).await;
    let expected = "(source_file [1:1]-[1:10]
  (function_item [1:1]-[1:10]
    name: (identifier [1:4]-[1:5] \"f\")
    parameters: (parameters [1:5]-[1:7])
    body: (block [1:8]-[1:10])))";
    assert_eq!(whole.structured["tree"], expected);
    let cut = client.good("parse", json!({ "text": "fn f() {}", "language": "rust", "max_depth": 2 })).await;
    assert_eq!(cut.structured["tree"], "(source_file [1:1]-[1:10]\n  (function_item [1:1]-[1:10] …))");
    let all = client.good("parse", json!({ "text": "f(1)", "language": "go", "all_tokens": true })).await;
    assert!(all.structured["tree"].as_str().unwrap().contains("(\"(\" [1:2]-[1:3])"), "{}", all.text);
    let empty = client.good("parse", json!({ "text": "", "language": "go" })).await;
    assert_eq!(empty.structured["tree"], "(source_file [1:1]-[1:1])");
}
