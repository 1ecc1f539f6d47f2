use std::fs;
use std::sync::Arc;

use datafusion::arrow::array::{Array, DictionaryArray, Float64Array, StringArray, TimestampMicrosecondArray};
use datafusion::arrow::datatypes::{Field, Int32Type, Schema};

use super::*;

fn write(directory: &tempfile::TempDir, name: &str, text: &str) -> PathBuf {
    let path = directory.path().join(name);
    fs::write(&path, text).unwrap();
    path
}

#[test]
fn csv_types_come_from_all_rows() {
    let directory = tempfile::tempdir().unwrap();
    let path = write(
        &directory,
        "a.csv",
        "whole,part,flag,name,none,late\n1,0.1,true,x,,1\n,NaN,False,\"\",,2\n3,1e3,TRUE,NA,,x\n",
    );
    let table = Table::read(&path).unwrap();
    let kinds: Vec<ColumnKind> =
        ["whole", "part", "flag", "name", "none", "late"].iter().map(|name| table.kind(name).unwrap()).collect();
    use ColumnKind::{Categorical, Empty, Numeric};
    assert_eq!(kinds, [Numeric, Numeric, Categorical, Categorical, Empty, Categorical]);
    let part = table.numeric("part").unwrap();
    assert_eq!((part[0], part[1].is_nan(), part[2]), (0.1, true, 1000.0));
    let text = |name| table.categories(name).unwrap();
    assert_eq!(text("flag"), [Some("True".into()), Some("False".into()), Some("True".into())]);
    assert_eq!(text("name"), [Some("x".into()), None, None]);
    assert_eq!(text("late"), [Some("1".into()), Some("2".into()), Some("x".into())]);
}

#[test]
fn json_types_come_from_all_rows_and_nested_names_are_dotted() {
    let directory = tempfile::tempdir().unwrap();
    let path = write(
        &directory,
        "a.jsonl",
        "{\"a\":1,\"b\":true,\"f\":{\"x\":0.5,\"y\":\"p\"},\"list\":[1,2]}\n\n{\"b\":null,\"a\":2.5,\"f\":{\"y\":\"q\"}}\n\
         {\"late\":\"z\",\"b\":1}\n",
    );
    let table = Table::read(&path).unwrap();
    let names: Vec<&str> = table.schema.fields().iter().map(|field| field.name().as_str()).collect();
    assert_eq!(names, ["a", "b", "f.x", "f.y", "list", "late"]);
    let a = table.numeric("a").unwrap();
    assert_eq!((a[0], a[1], a[2].is_nan()), (1.0, 2.5, true));
    assert_eq!(table.categories("b").unwrap(), [Some("True".into()), None, Some("1".into())]);
    assert_eq!(table.categories("f.y").unwrap(), [Some("p".into()), Some("q".into()), None]);
    assert_eq!(table.categories("late").unwrap(), [None, None, Some("z".into())]);
}

#[test]
fn json_lists_of_numbers_are_lists_and_others_are_left_out() {
    let directory = tempfile::tempdir().unwrap();
    let lines = "{\"v\":[1,2.5],\"mixed\":[1,\"x\"],\"deep\":[[1]],\"now\":[1]}\n{\"mixed\":[1]}\n\
                 {\"v\":[],\"now\":7}\n{\"v\":[null,-1e3,3]}\n{\"v\":null}\n";
    let table = Table::read(&write(&directory, "a.jsonl", lines)).unwrap();
    let names: Vec<&str> = table.schema.fields().iter().map(|field| field.name().as_str()).collect();
    // Where numbers and lists stand side by side, the numbers are the column.
    assert_eq!(names, ["v", "now"]);
    assert_eq!(table.numeric("now").unwrap()[2], 7.0);
    let lists = table.batches[0].column(0);
    let vectors = crate::reference::column::vectors(&lists.slice(3, 2), 3).unwrap();
    assert!(vectors[1].is_none());
    let entries = vectors[0].as_ref().unwrap();
    assert!(entries[0].is_nan() && entries[1..] == [-1000.0, 3.0], "{entries:?}");
    let problem = crate::reference::column::vectors(lists, 3).unwrap_err();
    assert_eq!(problem, crate::reference::column::ColumnProblem::Length { row: 0, found: 2, wanted: 3 });
}

#[test]
fn every_decimal_is_rounded_as_the_standard_library_does() {
    let directory = tempfile::tempdir().unwrap();
    let mut state = 88_172_645_463_325_252_u64;
    let decimals: Vec<String> = (0..20_000)
        .map(|i| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            match i % 4 {
                0 => format!("{}.{}", state % 10, (state >> 8) % 10),
                1 => format!("{}.{:06}", state % 1000, (state >> 8) % 1_000_000),
                2 => format!("0.{:017}", (state >> 4) % 100_000_000_000_000_000),
                _ => format!("{}.{:09}e{}", state % 10, (state >> 8) % 1_000_000_000, (state >> 40) as i64 % 300 - 150),
            }
        })
        .collect();
    let expected: Vec<u64> = decimals.iter().map(|text| text.parse::<f64>().unwrap().to_bits()).collect();
    let json: String = decimals.iter().map(|text| format!("{{\"x\":{text}}}\n")).collect();
    let csv = format!("x\n{}\n", decimals.join("\n"));
    for path in [write(&directory, "x.jsonl", &json), write(&directory, "x.csv", &csv)] {
        let ours: Vec<u64> = Table::read(&path).unwrap().numeric("x").unwrap().iter().map(|x| x.to_bits()).collect();
        let differing = ours.iter().zip(&expected).filter(|(a, b)| a != b).count();
        assert_eq!((ours.len(), differing), (expected.len(), 0), "{}", path.display());
    }
}

#[test]
fn pieces_of_a_large_file_agree_on_types() {
    let directory = tempfile::tempdir().unwrap();
    let filler = "y".repeat(300);
    let mut text: String = (0..8_000).map(|i| format!("{{\"n\":{i},\"pad\":\"{filler}\"}}\n")).collect();
    text.push_str("{\"n\":0.5,\"last\":true}\n");
    let table = Table::read(&write(&directory, "big.jsonl", &text)).unwrap();
    let numbers = table.numeric("n").unwrap();
    assert_eq!((numbers.len(), numbers[7_999], numbers[8_000]), (8_001, 7_999.0, 0.5));
    assert_eq!(table.categories("last").unwrap()[8_000], Some("True".into()));
    text.push_str("{\"n\":}\n");
    let error = Table::read(&write(&directory, "bad.jsonl", &text)).unwrap_err().to_string();
    assert!(error.contains("line 8002: column 6: expected value"), "{error}");
}

#[test]
fn parquet_columns_are_read_as_asked() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("a.parquet");
    let words: DictionaryArray<Int32Type> = vec![Some("b"), None, Some("a")].into_iter().collect();
    let schema = Arc::new(Schema::new(vec![
        Field::new("x", DataType::Float64, true),
        Field::new("text", DataType::Utf8, true),
        Field::new("word", words.data_type().clone(), true),
        Field::new("at", DataType::Timestamp(datafusion::arrow::datatypes::TimeUnit::Microsecond, None), true),
    ]));
    let batch = RecordBatch::try_new(
        schema.clone(),
        vec![
            Arc::new(Float64Array::from(vec![Some(1.5), None, Some(f64::NAN)])),
            Arc::new(StringArray::from(vec![Some("p"), Some(""), None])),
            Arc::new(words),
            Arc::new(TimestampMicrosecondArray::from(vec![Some(1_999), Some(-1), None])),
        ],
    )
    .unwrap();
    let mut writer = ::parquet::arrow::ArrowWriter::try_new(fs::File::create(&path).unwrap(), schema, None).unwrap();
    writer.write(&batch).unwrap();
    writer.close().unwrap();

    let file = TableFile::open(&path).unwrap();
    assert_eq!((file.rows, file.kind("text").unwrap()), (3, ColumnKind::Categorical));
    let table = file.columns(&["word", "x"]).unwrap();
    assert_eq!(table.categories("word").unwrap(), [Some("b".into()), None, Some("a".into())]);
    let x = table.numeric("x").unwrap();
    assert_eq!((x[0], x[1].is_nan(), x[2].is_nan()), (1.5, true, true));
    let all = file.all().unwrap();
    assert_eq!(all.epoch_ms("at").unwrap(), [Some(1), Some(-1), None], "rounded down, before 1970 too");
    assert_eq!(all.categories("text").unwrap(), [Some("p".into()), Some(String::new()), None]);
}

#[test]
fn errors_say_what_where_and_how_to_fix_it() {
    let directory = tempfile::tempdir().unwrap();
    let message = |path: &Path| TableFile::open(path).map(|_| ()).unwrap_err().to_string();
    assert!(message(&directory.path().join("no.csv")).contains("no such file"));
    assert!(message(&write(&directory, "a.xlsx", "")).contains("name it .parquet, .csv or .jsonl"));
    assert!(message(&write(&directory, "a.parquet", "text")).contains("not a Parquet file"));
    assert!(message(&write(&directory, "empty.csv", "a,b\n")).contains("holds no rows"));
    assert!(message(&write(&directory, "twice.csv", "a,a\n1,2\n")).contains("names column `a` twice"));
    assert!(message(&write(&directory, "short.csv", "a,b\n1,2\n3\n")).contains("line"));
    assert!(message(&write(&directory, "list.json", "[{\"a\":1}]")).contains("one object a line"));
    assert!(message(&write(&directory, "twice.jsonl", "{\"a\":1,\"a\":2}")).contains("`a` stands twice"));

    let table = Table::read(&write(&directory, "b.csv", "amount,name\n1,x\ninf,y\n")).unwrap();
    let error = table.numeric("amuont").unwrap_err().to_string();
    assert_eq!(error, "no column `amuont` (did you mean `amount`?); the columns are: amount, name");
    let error = table.numeric("amount").unwrap_err().to_string();
    assert!(error.starts_with("column `amount` is infinite in row 2"), "{error}");
    let error = table.numeric("name").unwrap_err().to_string();
    assert_eq!(error, "column `name` is text, not numeric");
    let error = table.epoch_ms("name").unwrap_err().to_string();
    assert!(error.contains("`x` in row 1"), "{error}");
}

#[test]
fn times_are_understood_as_people_and_logs_write_them() {
    let new_year = 1_767_225_600_000;
    for text in [
        "2026-01-01T00:00:00Z",
        "2026-01-01 01:00:00+01:00",
        "2026-01-01T00:00:00.0009",
        "2026-01-01 00:00:00",
        "2026-01-01T00:00",
        "2026-01-01",
    ] {
        assert_eq!(parse_epoch_ms(text), Some(new_year), "{text}");
    }
    assert_eq!(parse_epoch_ms("yesterday"), None);
    for number in [1_767_225_600.0, 1_767_225_600_000.0, 1_767_225_600_000_000.0, 1_767_225_600e9] {
        assert_eq!(epoch_ms_of_number(number), new_year, "{number}");
    }
    assert_eq!(epoch_ms_of_number(-0.0005), -1);
}

#[test]
fn floats_read_as_categories_look_as_in_python() {
    for (value, text) in [
        (1.0, "1.0"),
        (-2.5, "-2.5"),
        (1e16, "1e+16"),
        (123_456_789_012_345_680.0, "1.2345678901234568e+17"),
        (9_999_999_999_999_998.0, "9999999999999998.0"),
        (0.0001, "0.0001"),
        (0.00001, "1e-05"),
        (0.1, "0.1"),
        (0.0, "0.0"),
        (1e100, "1e+100"),
    ] {
        assert_eq!(columns::python_float(value), text);
    }
}
