use std::sync::Arc;

use super::super::ToolError;
use super::*;
use crate::record::decode::Decoder;

fn table(text: &str, roles: &Roles) -> Result<Table, ToolError> {
    Table::parse("t.csv", String::new(), text.as_bytes(), roles)
}

fn roles() -> Roles {
    Roles {
        key: vec!["pump".to_owned()],
        timestamp: Some("at".to_owned()),
        labels: Some("bad".to_owned()),
        ..Roles::default()
    }
}

#[test]
fn a_csv_file_becomes_keys_times_features_and_labels() {
    let text = "at,pump,a,note,b,bad\n\
                2020-01-01 00:00:01,p1,1.5,x,,0\n\
                2020-01-01T00:00:02Z,p2,NaN,y,2,1\n\
                1577836803,p1,,z,,0.0\n";
    let read = table(text, &roles()).unwrap();
    assert_eq!(read.columns, ["a", "b"]);
    assert_eq!(read.ignored, ["note"]);
    let keys: Vec<&str> = read.keys.iter().map(|key| key.0.as_ref()).collect();
    assert_eq!(keys, ["p1", "p2", "p1"]);
    let start = 1_577_836_800_000;
    assert_eq!(
        read.times,
        [1, 2, 3].map(|second| Timestamp(start + 1000 * second))
    );
    assert_eq!(read.row(0)[0].to_bits(), 1.5_f64.to_bits());
    assert!(read.row(0)[1].is_nan() && read.row(1)[0].is_nan());
    assert_eq!(read.empty, [false, false, true]);
    assert_eq!(read.labels, Some(vec![false, true, false]));
}

#[test]
fn json_lines_have_dotted_paths_and_may_lack_fields() {
    let text = "{\"pump\":\"p\",\"at\":7,\"bad\":false,\"s\":{\"x\":1}}\n\n\
                {\"pump\":\"p\",\"at\":8,\"bad\":true,\"s\":{\"x\":null},\"y\":true,\"v\":[3,4]}\n";
    let read = table(text, &roles()).unwrap();
    assert_eq!(read.columns, ["s.x", "v[0]", "v[1]", "y"]);
    assert!(read.row(0)[1..].iter().all(|value| value.is_nan()));
    assert_eq!(read.row(1)[1..], [3.0, 4.0, 1.0]);
    assert_eq!(read.labels, Some(vec![false, true]));
}

#[test]
fn names_with_dots_are_as_a_schema_has_them_or_as_they_were_asked_for() {
    let text = "{\"host.name\":\"p\",\"cpu\":{\"all.user\":1,\"idle\":2}}\n";
    let named = |name: &str| Roles {
        key: vec![name.to_owned()],
        ..Roles::default()
    };
    for name in ["host.name", r"host\.name"] {
        let read = table(text, &named(name)).unwrap();
        assert_eq!(read.columns, [r"cpu.all\.user", "cpu.idle"], "{name}");
        assert_eq!(&*read.keys[0].0, "p");
    }
}

#[test]
fn the_calendar_is_a_column_as_it_is_live() {
    let json = r#"{"features":["a"],"timestamp":"at","calendar":{"utc_offset":"-03:30","holidays":["2026-12-25"]}}"#;
    let spec: SchemaSpec = serde_json::from_str(json).unwrap();
    let mut decoder = Decoder::new(Arc::new(spec.check().unwrap()));
    let times = [
        "2026-12-25T03:29:59Z",
        "2026-12-25T03:30:00Z",
        "2026-12-26T12:00:00Z",
    ];
    let text: String = times.iter().map(|at| format!("{at},1\n")).collect();
    let roles = Roles {
        timestamp: Some("at".to_owned()),
        calendar: spec.calendar.clone(),
        ..Roles::default()
    };
    let read = table(&format!("at,a\n{text}"), &roles).unwrap();
    assert_eq!(read.columns, decoder.schema().columns());
    assert_eq!(read.columns, ["a", "calendar"]);
    for (at, text) in times.iter().enumerate() {
        let mut row = [0.5; 2];
        // Twice: by serde_json, and by the template that was learnt.
        for _ in 0..2 {
            let value = format!("{{\"at\":\"{text}\",\"a\":1}}");
            decoder
                .decode_one(None, Some(value.as_bytes()), Timestamp(9), &mut row)
                .unwrap();
            assert_eq!(read.row(at), row);
        }
    }
    // A row of which only the time is known is a dead letter.
    let mut row = [0.5; 2];
    let value = br#"{"at":"2026-12-25T00:00:00Z"}"#;
    let refused = decoder.decode_one(None, Some(value), Timestamp(9), &mut row);
    assert_eq!(refused.unwrap_err().reason(), "nothing_observed");
    let read = table(
        "at,a\n2026-12-25T00:00:00Z,\n2026-12-25T00:00:01Z,1\n",
        &roles,
    )
    .unwrap();
    assert_eq!(read.empty, [true, false]);
    let said = |text: &str, roles: &Roles| table(text, roles).unwrap_err().to_string();
    let timeless = Roles {
        timestamp: None,
        ..roles.clone()
    };
    assert!(said("a\n1\n", &timeless).contains("--timestamp"));
    assert!(said("at,a,calendar\n1,1,1\n", &roles).contains("column `calendar`"));
}

#[test]
fn without_a_time_rows_are_a_second_apart() {
    let read = table("a;b\n1;2\n3;4\n", &Roles::default()).unwrap();
    assert_eq!(read.times, [Timestamp(0), Timestamp(1000)]);
    assert_eq!(read.values, [1.0, 2.0, 3.0, 4.0]);
    assert_eq!(read.keys[0], read.keys[1]);
}

#[test]
fn errors_name_file_line_column_and_value() {
    let said = |text: &str, roles: &Roles| table(text, roles).unwrap_err().to_string();
    let plain = Roles::default();
    let bad = said("a,b\n1,2\n3,on\n", &plain);
    assert!(
        bad.starts_with("t.csv, line 3: column `b` has `on`"),
        "{bad}"
    );
    let time = said("at,pump,bad,a\nsoon,p,0,1\n", &roles());
    assert!(time.contains("line 2: column `at`: `soon`"), "{time}");
    let label = said("at,pump,bad,a\n1,p,maybe,1\n", &roles());
    assert!(
        label.contains("line 2: column `bad` has `maybe`"),
        "{label}"
    );
    let absent = said("a\n1\n", &roles());
    assert!(absent.contains("no column `pump` (key)"), "{absent}");
    assert!(
        said("a,b\n1\n", &plain).contains("line 2"),
        "{}",
        said("a,b\n1\n", &plain)
    );
    assert!(said("", &plain).contains("empty"));
    assert!(said("a\n", &plain).contains("no rows"));
    assert!(said("a\nx\n", &plain).contains("no column with numbers"));
    assert!(said("{\"a\":1}\n[2]\n", &plain).contains("line 2: is not a JSON object"));
}

#[test]
fn gzip_is_known_by_its_first_bytes() {
    use std::io::Write as _;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("x.csv");
    let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    packed.write_all(b"a\n1\n2\n").unwrap();
    std::fs::write(&path, packed.finish().unwrap()).unwrap();
    assert_eq!(
        Table::read(&path, &Roles::default()).unwrap().values,
        [1.0, 2.0]
    );
}

#[test]
fn missing_values_follow_the_policies_and_categories_are_one_hot() {
    let roles = Roles {
        categories: BTreeMap::from([("mode".to_owned(), vec!["on".to_owned(), "off".to_owned()])]),
        missing_for: BTreeMap::from([("a".to_owned(), Missing::Constant(9.0))]),
        missing: Missing::Last,
        ..Roles::default()
    };
    let read = table("mode,a,b\non,,1\n,2,\n", &roles).unwrap();
    assert_eq!(read.columns, ["a", "b", "mode=on", "mode=off"]);
    assert_eq!(read.row(0), [9.0, 1.0, 1.0, 0.0]);
    assert!(read.row(1)[1..].iter().all(|value| value.is_nan()));
    assert_eq!(read.fill_last(), [1, 2, 3]);
}
