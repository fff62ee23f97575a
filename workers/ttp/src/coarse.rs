//! Ladders: from a value to a coarser one.
//!
//! Parts of the country are NIS codes: Belgian municipalities have 5 digits, of which the first is the province and the
//! first two the arrondissement, but for Brussels and the two Brabants, which share the 2. Regions: 02000 Flanders, 03000
//! Wallonia, 04000 Brussels.

/// Ages above this are one class: so few reach it that a year of age would tell who.
const AGE_TOP: u16 = 90;
const AGE_MAX: u16 = 130;

/// A part of the country.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Area {
    /// One of 43.
    Arrondissement,
    /// One of 10, or Brussels.
    Province,
    /// One of 3.
    Region,
}

/// The first and last years of the `years` that hold this one: `1985-1989`.
pub(crate) fn years(year: i32, years: u16) -> String {
    let years = i32::from(years.max(1));
    let first = year.div_euclid(years) * years;
    format!("{first:04}-{:04}", first + years - 1)
}

/// The interval of an age: `40-44`, and `90+` at the top.
pub(crate) fn age(text: &str, years: u16) -> Option<String> {
    let age: u16 = text.parse().ok().filter(|age| *age <= AGE_MAX && !text.starts_with('+'))?;
    if age >= AGE_TOP {
        return Some(format!("{AGE_TOP}+"));
    }
    let first = age / years * years;
    Some(format!("{first}-{}", (first + years).min(AGE_TOP) - 1))
}

/// The part of the country of a NIS code.
pub(crate) fn nis(code: &str, area: Area) -> Option<String> {
    let number: u32 =
        code.parse().ok().filter(|_| code.len() == 5 && code.bytes().all(|byte| byte.is_ascii_digit()))?;
    let arrondissement = number / 1_000;
    let province = match arrondissement {
        11..=13 => "10000",
        21 => "21000",
        23 | 24 => "20001",
        25 => "20002",
        31..=38 => "30000",
        41..=46 => "40000",
        51..=58 => "50000",
        61..=64 => "60000",
        71..=73 => "70000",
        81..=85 => "80000",
        91..=93 => "90000",
        _ => return None,
    };
    Some(match area {
        Area::Arrondissement => format!("{arrondissement}000"),
        Area::Province => province.to_owned(),
        Area::Region => match province {
            "21000" => "04000",
            "10000" | "20001" | "30000" | "40000" | "70000" => "02000",
            _ => "03000",
        }
        .to_owned(),
    })
}

/// The province of a Belgian postcode of 4 digits.
pub(crate) fn province(postcode: &str) -> Option<&'static str> {
    let is_belgian = postcode.len() == 4 && postcode.bytes().all(|byte| byte.is_ascii_digit());
    let number: u16 = postcode.parse().ok().filter(|_| is_belgian)?;
    Some(match number {
        1000..=1299 => "21000",
        1300..=1499 => "20002",
        1500..=1999 | 3000..=3499 => "20001",
        // Zwijndrecht joined a municipality of East Flanders in 2025 and kept its postcode.
        2070 => "40000",
        2000..=2999 => "10000",
        3500..=3999 => "70000",
        4000..=4999 => "60000",
        5000..=5999 => "90000",
        6000..=6599 | 7000..=7999 => "50000",
        6600..=6999 => "80000",
        8000..=8999 => "30000",
        9000..=9999 => "40000",
        _ => return None,
    })
}

/// Intervals of numbers.
#[derive(Debug, Clone)]
pub(crate) enum Buckets {
    Edges(Vec<f64>),
    Width(f64),
}

impl Buckets {
    /// The interval of a number: `10..20` holds 10 and not 20; open at the ends: `..10`, `90..`.
    pub(crate) fn of(&self, text: &str) -> Option<String> {
        let is_plain = text.bytes().all(|byte| byte.is_ascii_digit() || b"+-.eE".contains(&byte));
        let number: f64 = text.parse().ok().filter(|number: &f64| is_plain && number.is_finite())?;
        match self {
            Buckets::Edges(edges) => {
                let above = edges.partition_point(|edge| *edge <= number);
                let edge = |at: Option<usize>| at.and_then(|at| edges.get(at)).map(f64::to_string).unwrap_or_default();
                Some(format!("{}..{}", edge(above.checked_sub(1)), edge(Some(above))))
            }
            Buckets::Width(width) => {
                let first = (number / width).floor();
                Some(format!("{}..{}", tidy(first * width), tidy((first + 1.0) * width)))
            }
        }
    }
}

/// Without the last digits, which are the error of counting in binary: 0.30000000000000004 is 0.3.
fn tidy(number: f64) -> f64 {
    format!("{number:.9}").parse().unwrap_or(number)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn years_and_ages_fall_into_intervals_and_the_oldest_into_one() {
        assert_eq!(
            (years(1985, 5), years(1989, 5), years(2000, 10)),
            ("1985-1989".into(), "1985-1989".into(), "2000-2009".into())
        );
        assert_eq!(age("41", 5).as_deref(), Some("40-44"));
        assert_eq!(age("0", 10).as_deref(), Some("0-9"));
        assert_eq!(age("89", 20).as_deref(), Some("80-89"));
        assert_eq!(age("104", 5).as_deref(), Some("90+"));
        for bad in ["-1", "131", "4.5", "+4", "forty", ""] {
            assert_eq!(age(bad, 5), None, "{bad}");
        }
    }

    #[test]
    fn places_go_up_the_ladder() {
        assert_eq!(nis("33039", Area::Arrondissement).as_deref(), Some("33000"));
        assert_eq!(nis("33039", Area::Province).as_deref(), Some("30000"));
        assert_eq!(nis("33039", Area::Region).as_deref(), Some("02000"));
        assert_eq!(nis("21004", Area::Province).as_deref(), Some("21000"));
        assert_eq!(nis("25005", Area::Region).as_deref(), Some("03000"));
        assert_eq!(nis("99999", Area::Province), None);
        assert_eq!(nis("3303", Area::Province), None);
        assert_eq!((province("8958"), province("1348"), province("0999")), (Some("30000"), Some("20002"), None));
    }

    #[test]
    fn numbers_fall_into_the_interval_that_holds_them() {
        let edges = Buckets::Edges(vec![18.5, 25.0, 30.0]);
        for (number, expected) in [("18.4", "..18.5"), ("18.5", "18.5..25"), ("24.99", "18.5..25"), ("30", "30..")] {
            assert_eq!(edges.of(number).as_deref(), Some(expected), "{number}");
        }
        let width = Buckets::Width(0.1);
        assert_eq!(width.of("0.25").as_deref(), Some("0.2..0.3"));
        assert_eq!(width.of("-0.05").as_deref(), Some("-0.1..0"));
        for bad in ["", "x", "inf", "NaN", "1,5"] {
            assert_eq!(width.of(bad), None, "{bad}");
        }
    }

    proptest! {
        #[test]
        fn every_number_lies_in_its_interval(number in -1e6f64..1e6, width in 0.5f64..1e3) {
            let text = Buckets::Width(width).of(&number.to_string()).unwrap();
            let (from, to) = text.split_once("..").unwrap();
            let (from, to): (f64, f64) = (from.parse().unwrap(), to.parse().unwrap());
            prop_assert!(from - 1e-6 <= number && number <= to + 1e-6, "{} in {}", number, text);
        }
    }
}
