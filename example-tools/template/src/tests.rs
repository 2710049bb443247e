use crate::template::*;

fn text(name: &str, value: &str) -> Variable {
    Variable { name: name.to_owned(), value: Content::Text(value.to_owned()) }
}

fn table(rows: &[&[&str]]) -> Variable {
    let row = |row: &[&str]| row.iter().map(|cell| (*cell).to_owned()).collect();
    let columns = row(&["city", "orders", "sum"]);
    Variable {
        name: "t".to_owned(),
        value: Content::Table(Table { columns, rows: rows.iter().map(|r| row(r)).collect() }),
    }
}

#[track_caller]
fn check(template: &str, variable: Variable, format: Format, expected: &str) {
    let found = render(template.to_owned(), vec![variable], format).unwrap_or_else(|error| error.message);
    assert_eq!(found, expected);
}

#[test]
fn data_cannot_break_out_of_the_page() {
    check("# {{ t }}", text("t", "a_b | <i>\n# c"), Format::Markdown, r"# a\_b \| \<i\> # c");
    check("<p>{{ t }}", text("t", "<script>"), Format::Html, "<p>&lt;script&gt;");
    check("{{ t }}", text("t", "a_b <i>"), Format::Text, "a_b <i>");
    check("{{ t }}", text("t", "{{ secret }}"), Format::Text, "{{ secret }}");
}

#[test]
fn every_kind_of_value_reaches_the_template() {
    let counts = vec![Counted { word: "tea".to_owned(), count: 3 }, Counted { word: "pot".to_owned(), count: 2 }];
    let counts = Variable { name: "w".to_owned(), value: Content::Counts(counts) };
    check("{% for w in w %}{{ w.word }} {{ w.count }};{% endfor %}", counts, Format::Text, "tea 3;pot 2;");
    let texts = Variable { name: "l".to_owned(), value: Content::Texts(vec!["a".to_owned(), "<b>".to_owned()]) };
    check("{{ l | join(', ') }}", texts, Format::Text, "a, <b>");
    let count = Variable { name: "n".to_owned(), value: Content::Count(12_345) };
    check("{{ n | number }}", count, Format::Text, "12,345");
    check("{{ t.rows[1][0] }}", table(&[&["Bonn", "1", "2"], &["Lyon", "3", "4"]]), Format::Text, "Lyon");
}

#[test]
fn tables_line_up_and_columns_of_numbers_read_as_numbers() {
    let rows: &[&[&str]] = &[&["Lyon|FR", "1250", "2.505"], &["Bonn", "3", "-1000"]];
    let drawn = "\
| city     | orders |       sum |
|:---------|-------:|----------:|
| Lyon\\|FR |  1,250 |      2.51 |
| Bonn     |      3 | -1,000.00 |
";
    check("{{ t | table(2) }}", table(rows), Format::Markdown, drawn);
    let rows: &[&[&str]] = &[&["<b>", "1250", "2.505"], &["", "3", ""]];
    let drawn = "\
<table>
<tr><th>city</th><th>orders</th><th>sum</th></tr>
<tr><td>&lt;b&gt;</td><td>1250</td><td>2.505</td></tr>
<tr><td></td><td>3</td><td></td></tr>
</table>
";
    check("{{ t | table }}", table(rows), Format::Html, drawn);
}

#[test]
fn numbers_are_grouped_and_rounded_exactly() {
    check("{{ n | number(2) }}", text("n", "1234567.005"), Format::Text, "1,234,567.01");
    check("{{ n | number(1) }}", text("n", "-999"), Format::Text, "-999.0");
    check("{{ n | number }}", text("n", "x"), Format::Text, "line 1: invalid operation: `x` is no decimal number");
}

#[test]
fn mistakes_name_their_line() {
    check("a\n{{ b }}", text("t", ""), Format::Text, "line 2: undefined value");
    check("a\n\n{% if %}", text("t", ""), Format::Text, "line 3: syntax error: unexpected end of block");
    check(
        "{{ t | table }}",
        text("t", "x"),
        Format::Text,
        "line 1: invalid operation: only a table can be drawn as one",
    );
    let ragged: &[&[&str]] = &[&["Bonn", "1"]];
    let expected = "line 1: invalid operation: row 1 has 2 cells, the table 3 columns";
    check("{{ t | table }}", table(ragged), Format::Markdown, expected);
    let spin = "{% for i in range(9999) %}{% for j in range(9999) %}.{% endfor %}{% endfor %}";
    check(spin, text("t", ""), Format::Text, "line 1: engine ran out of fuel");
}
