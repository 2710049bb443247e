//! The types that a tool's parameters and results may have, as WIT says them.

use serde::{Deserialize, Serialize};

/// A WIT value type. Resources, futures and streams have no form here: a function that uses one is not a tool.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum WitType {
    Bool,
    S8,
    S16,
    S32,
    S64,
    U8,
    U16,
    U32,
    U64,
    F32,
    F64,
    Char,
    String,
    List(Box<WitType>),
    Tuple(Vec<WitType>),
    Option(Box<WitType>),
    Result {
        ok: Option<Box<WitType>>,
        err: Option<Box<WitType>>,
    },
    /// `name` is the type's name in WIT, under which a manifest may explain it.
    Record {
        name: String,
        fields: Vec<Field>,
    },
    Variant {
        name: String,
        cases: Vec<Case>,
    },
    Enum {
        name: String,
        cases: Vec<String>,
    },
    Flags {
        name: String,
        flags: Vec<String>,
    },
}

/// One field of a record. `name` is in kebab-case, as in WIT.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Field {
    pub name: String,
    pub ty: WitType,
}

/// One case of a variant. `name` is in kebab-case, as in WIT.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Case {
    pub name: String,
    pub ty: Option<WitType>,
}

impl WitType {
    /// Answers whether a value may hold any number of others.
    pub fn has_list(&self) -> bool {
        match self {
            Self::List(_) => true,
            Self::Tuple(types) => types.iter().any(Self::has_list),
            Self::Option(ty) => ty.has_list(),
            Self::Result { ok, err } => [ok, err].into_iter().flatten().any(|ty| ty.has_list()),
            Self::Record { fields, .. } => fields.iter().any(|field| field.ty.has_list()),
            Self::Variant { cases, .. } => cases.iter().filter_map(|case| case.ty.as_ref()).any(Self::has_list),
            _ => false,
        }
    }

    /// Answers whether a value may be left out: its absence means `none`.
    pub fn is_option(&self) -> bool {
        matches!(self, Self::Option(_))
    }
}
