//! Cases whose answers come from Docker's client with the same template and data.

use serde_json::json;

use super::*;

fn render(text: &str) -> String {
    let data = Val::Json(json!({
        "Id": "abc", "Name": "/x", "N": 3, "On": true, "Tags": ["a", "b"], "Map": {"b": "2", "a": "1"},
        "Net": {"my-net": {"IP": "1.2.3.4"}}, "Nothing": null, "Empty": [], "State": {"Running": true},
    }));
    let mut out = String::new();
    match Template::parse("", text).and_then(|t| t.run(&data, &mut out)) {
        Ok(()) => out,
        Err(error) => format!("{out}!{error}"),
    }
}

#[test]
fn values_and_printing() {
    assert_eq!(render("{{.Id}} {{.ID}} {{.N}} {{.On}}"), "abc abc 3 true");
    assert_eq!(render("{{.Tags}} {{.Map}} {{.Empty}}"), "[a b] map[a:1 b:2] []");
    assert_eq!(render("{{json .Map}} {{json .Tags}} {{json .Nothing}}"), r#"{"b":"2","a":"1"} ["a","b"] null"#);
    assert_eq!(render("{{.State.Health}}|{{if .State.Health}}y{{else}}n{{end}}"), "<nil>|n");
}

#[test]
fn what_a_map_does_not_have_has_no_value() {
    let data = Val::Json(json!({"Config": {"Labels": {"a": "b"}}}));
    let mut out = String::new();
    let text = "{{.Config.Labels.a}} {{.Config.Labels.x}}{{if .Config.Labels.x}}!{{end}}";
    Template::parse("", text).unwrap().run(&data, &mut out).unwrap();
    assert_eq!(out, "b <no value>");
}

#[test]
fn control() {
    assert_eq!(render("{{range .Tags}}<{{.}}>{{end}}"), "<a><b>");
    assert_eq!(render("{{range $i, $t := .Tags}}{{$i}}={{$t}} {{end}}"), "0=a 1=b ");
    assert_eq!(render("{{range $k, $v := .Map}}{{$k}}{{$v}}{{end}}"), "a1b2");
    assert_eq!(render("{{range .Empty}}x{{else}}none{{end}}"), "none");
    assert_eq!(render("{{if eq .N 4}}4{{else if eq .N 3}}3{{else}}?{{end}}"), "3");
    assert_eq!(render("{{with .Net}}{{(index . \"my-net\").IP}}{{end}}"), "1.2.3.4");
    assert_eq!(render("{{range .Tags}}{{if eq . \"b\"}}{{break}}{{end}}{{.}}{{end}}"), "a");
    assert_eq!(render("{{$x := 1}}{{if true}}{{$x = 2}}{{end}}{{$x}} {{$.Id}}"), "2 abc");
    assert_eq!(render("a  {{- .N -}}  b {{/* note */}}c"), "a3b c");
}

#[test]
fn functions() {
    assert_eq!(render("{{upper .Id}} {{title .Id}} {{join .Tags \"-\"}} {{split \"a,b\" \",\"}}"), "ABC Abc a-b [a b]");
    assert_eq!(render("{{len .Tags}} {{index .Tags 1}} {{index .Map \"a\"}} {{slice .Id 1 2}}"), "2 b 1 b");
    assert_eq!(render("{{printf \"%5d|%-4s|%q|%v\" .N .Id .Id .Tags}}"), "    3|abc |\"abc\"|[a b]");
    assert_eq!(render("{{and true .N}} {{or \"\" .Id}} {{not .On}} {{ne .N 3}} {{lt 1 2}}"), "3 abc false false true");
    assert_eq!(render("{{.Id | printf \"%s-%s\" \"x\" | upper}}"), "X-ABC");
    assert_eq!(render("{{pad .Id 1 2}}|{{truncate .Id 2}}|{{println .N}}"), " abc  |ab|3\n");
    assert_eq!(render("{{eq .Id \"x\" \"abc\"}}"), "true");
}

#[test]
fn errors_are_go_s() {
    for (text, error) in [
        ("{{.Foo}}", r#"!template: :1:2: executing "" at <.Foo>: map has no entry for key "Foo""#),
        ("{{.Map.Foo.Bar}}", r#"!template: :1:6: executing "" at <.Map.Foo.Bar>: map has no entry for key "Foo""#),
        ("{{.Id.Bar}}", r#"!template: :1:5: executing "" at <.Id.Bar>: can't evaluate field Bar in type interface {}"#),
        (
            "{{index .Tags 3}}",
            r#"!template: :1:2: executing "" at <index .Tags 3>: error calling index: index out of range: 3"#,
        ),
        ("{{.Foo", "!template: :1: unclosed action"),
        ("{{foo}}", r#"!template: :1: function "foo" not defined"#),
        ("{{if .Id}}x", "!template: :1: unexpected EOF"),
        ("{{$x}}", r#"!template: :1: undefined variable "$x""#),
    ] {
        assert_eq!(render(text), error, "{text}");
    }
}

#[test]
fn odd_input_never_panics() {
    let pieces = [
        "{{",
        "}}",
        ".",
        "-",
        " ",
        "|",
        "(",
        ")",
        "$",
        ":=",
        "é",
        "\"",
        "`",
        "'",
        "if",
        "end",
        "range",
        "else",
        "/*",
        "*/",
        "1",
        ".Id",
        ",",
        "index",
        "\\",
        "printf \"%é%5\" 1",
        "\n",
    ];
    let mut seed = 7usize;
    for _ in 0..30_000 {
        let mut text = String::from("{{");
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        for step in 0..(seed >> 33) % 9 {
            text.push_str(pieces[(seed >> (7 * step)) % pieces.len()]);
        }
        let _ = render(&text);
        text.push_str("}}");
        let _ = render(&text);
    }
}
