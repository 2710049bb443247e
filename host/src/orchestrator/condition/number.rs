//! Numbers of conditions: whole ones are exact, and two are equal where their values are.

use std::cmp::Ordering;

use serde_json::Number;

use crate::domain::Json;
use crate::orchestrator::condition::node::Binary;

/// A number of JSON, with its value.
#[derive(Clone, Copy, Debug)]
pub(super) enum Value {
    Whole(i128),
    Fraction(f64),
}

/// The least and the greatest whole number that JSON holds here.
const WHOLE: (i128, i128) = (i64::MIN as i128, u64::MAX as i128);

/// 2^63 and 2^64 as fractions are exact; beyond these a fraction is no whole number that JSON holds.
const WHOLE_AS_FRACTION: (f64, f64) = (-9_223_372_036_854_775_808.0, 18_446_744_073_709_551_616.0);

impl Value {
    pub(super) fn of(number: &Number) -> Option<Self> {
        number.as_i128().map(Self::Whole).or_else(|| number.as_f64().map(Self::Fraction))
    }

    pub(super) fn json(self) -> Result<Json, String> {
        let number = match self {
            Self::Whole(n) if (WHOLE.0..=WHOLE.1).contains(&n) => Number::from_i128(n),
            Self::Whole(_) => return Err("a whole number is beyond -2^63 or 2^64-1".to_owned()),
            Self::Fraction(x) => Number::from_f64(x),
        };
        number.map(Json::Number).ok_or_else(|| "a result is no finite number".to_owned())
    }

    fn fraction(self) -> f64 {
        match self {
            Self::Whole(n) => n as f64,
            Self::Fraction(x) => x,
        }
    }

    /// Compares by value: `9007199254740993` is greater than `9007199254740992.0`.
    pub(super) fn compare(self, other: Self) -> Option<Ordering> {
        match (self, other) {
            (Self::Whole(a), Self::Whole(b)) => Some(a.cmp(&b)),
            (Self::Fraction(a), Self::Fraction(b)) => a.partial_cmp(&b),
            (Self::Whole(a), Self::Fraction(b)) => compare_mixed(a, b),
            (Self::Fraction(a), Self::Whole(b)) => compare_mixed(b, a).map(Ordering::reverse),
        }
    }

    pub(super) fn negated(self) -> Self {
        match self {
            Self::Whole(n) => Self::Whole(-n),
            Self::Fraction(x) => Self::Fraction(-x),
        }
    }

    /// Returns its whole part, for `int(x)`.
    pub(super) fn whole(self) -> Result<Self, String> {
        match self {
            Self::Whole(_) => Ok(self),
            Self::Fraction(x) if x > WHOLE_AS_FRACTION.0 && x < WHOLE_AS_FRACTION.1 => {
                let whole = x as i128;
                Ok(Self::Whole(whole))
            }
            Self::Fraction(_) => Err("a fraction is too large for a whole number".to_owned()),
        }
    }

    pub(super) fn as_fraction(self) -> Self {
        Self::Fraction(self.fraction())
    }
}

fn compare_mixed(whole: i128, fraction: f64) -> Option<Ordering> {
    if fraction.is_nan() {
        return None;
    }
    if fraction >= WHOLE_AS_FRACTION.1 {
        return Some(Ordering::Less);
    }
    if fraction < WHOLE_AS_FRACTION.0 {
        return Some(Ordering::Greater);
    }
    let cut = fraction.trunc() as i128;
    Some(whole.cmp(&cut).then(0.0_f64.total_cmp(&(fraction.fract() + 0.0))))
}

/// Computes with two numbers.
///
/// # Errors
/// A division by zero, and a result that JSON cannot hold.
pub(super) fn compute(operator: Binary, left: Value, right: Value) -> Result<Json, String> {
    match (left, right) {
        (Value::Whole(a), Value::Whole(b)) => whole(operator, a, b)?.json(),
        _ => fraction(operator, left.fraction(), right.fraction())?.json(),
    }
}

/// Both lie between -2^63 and 2^64, so that no product passes 2^128.
fn whole(operator: Binary, a: i128, b: i128) -> Result<Value, String> {
    let result = match operator {
        Binary::Add => a.checked_add(b),
        Binary::Subtract => a.checked_sub(b),
        Binary::Multiply => a.checked_mul(b),
        Binary::Divide | Binary::Remainder if b == 0 => return Err("a division by zero".to_owned()),
        Binary::Divide => a.checked_div(b),
        Binary::Remainder => a.checked_rem(b),
        _ => None,
    };
    result.map(Value::Whole).ok_or_else(|| "a whole number is beyond -2^63 or 2^64-1".to_owned())
}

fn fraction(operator: Binary, a: f64, b: f64) -> Result<Value, String> {
    Ok(Value::Fraction(match operator {
        Binary::Add => a + b,
        Binary::Subtract => a - b,
        Binary::Multiply => a * b,
        Binary::Divide if b == 0.0 => return Err("a division by zero".to_owned()),
        Binary::Divide => a / b,
        _ => return Err("`%` is for whole numbers".to_owned()),
    }))
}
