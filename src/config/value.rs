//! How the text of a setting becomes its value.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use chrono_tz::Tz;
use croner::Cron;
use ipnet::IpNet;
use secrecy::SecretString;
use uuid::Uuid;

/// A type that a setting can have.
pub trait SettingValue: Sized {
    /// True for settings that are switched on by their bare flag.
    const IS_SWITCH: bool = false;
    /// What stands for the value in `--help`.
    const PLACEHOLDER: &'static str;

    /// Reads the value, or says what is expected instead.
    fn parse(text: &str) -> Result<Self, String>;
}

impl SettingValue for String {
    const PLACEHOLDER: &'static str = "TEXT";

    fn parse(text: &str) -> Result<Self, String> {
        Ok(text.to_owned())
    }
}

impl SettingValue for SecretString {
    const PLACEHOLDER: &'static str = "SECRET";

    fn parse(text: &str) -> Result<Self, String> {
        Ok(Self::from(text.to_owned()))
    }
}

impl SettingValue for PathBuf {
    const PLACEHOLDER: &'static str = "PATH";

    fn parse(text: &str) -> Result<Self, String> {
        if text.is_empty() { Err("expected a path".to_owned()) } else { Ok(Self::from(text)) }
    }
}

impl SettingValue for SocketAddr {
    const PLACEHOLDER: &'static str = "ADDR:PORT";

    fn parse(text: &str) -> Result<Self, String> {
        // `localhost` is what people type; only the loopback address can be meant.
        let loopback = text.strip_prefix("localhost:").map(|port| format!("127.0.0.1:{port}"));
        loopback
            .as_deref()
            .unwrap_or(text)
            .parse()
            .map_err(|_| "expected an IP address and a port, such as 127.0.0.1:8080 or [::1]:8080".to_owned())
    }
}

impl SettingValue for bool {
    const IS_SWITCH: bool = true;
    const PLACEHOLDER: &'static str = "true|false";

    fn parse(text: &str) -> Result<Self, String> {
        match text {
            "true" | "1" | "yes" | "on" => Ok(true),
            "false" | "0" | "no" | "off" => Ok(false),
            _ => Err("expected true or false".to_owned()),
        }
    }
}

macro_rules! numbers {
    ($($number:ty),*) => {$(
        impl SettingValue for $number {
            const PLACEHOLDER: &'static str = "N";

            fn parse(text: &str) -> Result<Self, String> {
                text.replace('_', "")
                    .parse()
                    .map_err(|_| format!("expected a whole number from 0 to {}", <$number>::MAX))
            }
        }
    )*};
}

numbers!(u16, u32, u64, usize);

impl SettingValue for Uuid {
    const PLACEHOLDER: &'static str = "UUID";

    fn parse(text: &str) -> Result<Self, String> {
        text.parse().map_err(|_| "expected a UUID".to_owned())
    }
}

impl SettingValue for IpNet {
    const PLACEHOLDER: &'static str = "CIDR";

    fn parse(text: &str) -> Result<Self, String> {
        parse_cidr(text)
    }
}

/// A network in CIDR notation, or a single address, which is a network of one.
pub fn parse_cidr(text: &str) -> Result<IpNet, String> {
    text.parse::<IpNet>()
        .or_else(|_| text.parse::<std::net::IpAddr>().map(IpNet::from))
        .map(|network| network.trunc())
        .map_err(|_| format!("expected a network such as 10.0.0.0/8 or 2001:db8::/32, not {text:?}"))
}

impl SettingValue for Duration {
    const PLACEHOLDER: &'static str = "DURATION";

    fn parse(text: &str) -> Result<Self, String> {
        parse_duration(text)
    }
}

/// A duration such as `500ms`, `60s`, `15m`, `24h` or `7d`.
pub fn parse_duration(text: &str) -> Result<Duration, String> {
    let expected = || format!("expected a duration such as 500ms, 60s, 15m, 24h or 7d, not {text:?}");
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let number: u64 = number.parse().map_err(|_| expected())?;
    let millis = match unit {
        "ms" => 1,
        "s" => 1_000,
        "m" => 60_000,
        "h" => 3_600_000,
        "d" => 86_400_000,
        _ => return Err(expected()),
    };
    number.checked_mul(millis).map(Duration::from_millis).ok_or_else(expected)
}

impl SettingValue for Cron {
    const PLACEHOLDER: &'static str = "CRON";

    fn parse(text: &str) -> Result<Self, String> {
        text.parse::<Self>()
            .map_err(|error| format!("expected a cron expression such as \"0 3 * * *\", not {text:?}: {error}"))
    }
}

impl SettingValue for Tz {
    const PLACEHOLDER: &'static str = "ZONE";

    fn parse(text: &str) -> Result<Self, String> {
        text.parse::<Self>().map_err(|_| format!("expected a time zone such as UTC or Europe/Berlin, not {text:?}"))
    }
}

impl<T: SettingValue> SettingValue for Option<T> {
    const PLACEHOLDER: &'static str = T::PLACEHOLDER;

    fn parse(text: &str) -> Result<Self, String> {
        if text.is_empty() { Ok(None) } else { T::parse(text).map(Some) }
    }
}

/// A list is written with commas.
impl<T: SettingValue> SettingValue for Vec<T> {
    const PLACEHOLDER: &'static str = "A,B";

    fn parse(text: &str) -> Result<Self, String> {
        text.split(',').map(str::trim).filter(|item| !item.is_empty()).map(T::parse).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_need_a_unit() {
        assert_eq!(parse_duration("500ms"), Ok(Duration::from_millis(500)));
        assert_eq!(parse_duration("24h"), Ok(Duration::from_hours(24)));
        for wrong in ["", "60", "s", "-1s", "1.5s", "1 s", "1w", "99999999999999999999s", "٣s"] {
            assert!(parse_duration(wrong).is_err(), "{wrong:?} was taken");
        }
    }

    #[test]
    fn times_of_day_and_places() {
        for good in ["0 3 * * *", "*/15 1-5 * * MON-FRI", "30 4 1 * *"] {
            assert!(Cron::parse(good).is_ok(), "{good:?}");
        }
        for wrong in ["3", "0 25 * * *", "at night", "* * * *"] {
            assert!(Cron::parse(wrong).unwrap_err().contains("0 3 * * *"), "{wrong:?}");
        }
        assert!(Option::<Cron>::parse("").is_ok_and(|it| it.is_none()));
        assert_eq!(Tz::parse("Europe/Berlin"), Ok(Tz::Europe__Berlin));
        for wrong in ["", "Berlin", "europe/berlin", "+01:00"] {
            assert!(Tz::parse(wrong).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn a_single_address_is_a_network_of_one() {
        assert_eq!(parse_cidr("10.1.2.3").map(|network| network.to_string()), Ok("10.1.2.3/32".into()));
        assert_eq!(parse_cidr("10.1.2.3/8").map(|network| network.to_string()), Ok("10.0.0.0/8".into()));
        assert!(parse_cidr("10.0.0.0/33").is_err());
        assert!(parse_cidr("acme").is_err());
    }

    #[test]
    fn localhost_is_the_loopback_address() {
        assert_eq!(SocketAddr::parse("localhost:80").map(|it| it.to_string()), Ok("127.0.0.1:80".into()));
        assert!(SocketAddr::parse("8080").is_err());
    }
}
