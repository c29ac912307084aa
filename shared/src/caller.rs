//! The caller of a request: role, storefront, actor, intent and request id, and what each role may do.

use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::{
    failure::{Code, Failure},
    id::Storefront,
    trace_context::TraceContext,
};

/// The caller of a request; passed on in AMQP headers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Caller {
    /// Role of the credential.
    pub role: Role,
    /// The storefront that a `storefront` credential belongs to; for other roles, the default owner of
    /// created resources.
    pub storefront: Storefront,
    /// Name of the credential.
    pub actor: String,
    /// Purpose of the request: the pattern, unless the client names a more specific one.
    pub intent: String,
    /// Id of the HTTP request, included in log lines and events.
    pub request_id: String,
    /// Trace context of the request.
    pub trace_context: Option<TraceContext>,
}

impl Caller {
    /// Whether this caller can see resources of `owner`.
    pub fn may_see(&self, owner: &Storefront) -> bool {
        match self.role {
            Role::Storefront => self.storefront == *owner,
            Role::Operator | Role::Admin => true,
        }
    }

    /// Requires an operator or admin.
    ///
    /// # Errors
    /// `FORBIDDEN`.
    pub fn require_operator(&self) -> Result<(), Failure> {
        match self.role {
            Role::Operator | Role::Admin => Ok(()),
            Role::Storefront => Err(Failure::new(
                Code::Forbidden,
                "this request requires the role operator or admin",
            )),
        }
    }

    /// Requires an admin.
    ///
    /// # Errors
    /// `FORBIDDEN`.
    pub fn require_admin(&self) -> Result<(), Failure> {
        match self.role {
            Role::Admin => Ok(()),
            Role::Operator | Role::Storefront => Err(Failure::new(
                Code::Forbidden,
                "this request requires the role admin",
            )),
        }
    }

    /// The storefront that a new resource belongs to: the `named_storefront`, or by default the caller's.
    ///
    /// # Errors
    /// `FORBIDDEN` when a storefront's credential names another storefront.
    pub fn owner(&self, named_storefront: Option<&Storefront>) -> Result<Storefront, Failure> {
        match named_storefront {
            None => Ok(self.storefront.clone()),
            Some(named_storefront) if self.may_see(named_storefront) => {
                Ok(named_storefront.clone())
            }
            Some(named_storefront) => Err(Failure::new(
                Code::Forbidden,
                format!("this credential has no access to storefront {named_storefront}"),
            )),
        }
    }
}

/// Role of a credential.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// Orders, customers and events of its own storefront.
    Storefront,
    /// All storefronts; stock, dead letters, restoring orders.
    Operator,
    /// Like operator, and manages API keys and the webhook endpoints of all storefronts.
    Admin,
}

impl Role {
    /// The role as in JSON.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Storefront => "storefront",
            Self::Operator => "operator",
            Self::Admin => "admin",
        }
    }
}

impl FromStr for Role {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        [Self::Storefront, Self::Operator, Self::Admin]
            .into_iter()
            .find(|role| role.as_str() == text)
            .ok_or_else(|| format!("unknown role {text:?}: must be storefront, operator or admin"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn storefront_can_see_and_name_only_itself() {
        let caller = |role| Caller {
            role,
            storefront: "eu".parse().unwrap(),
            actor: "a".to_owned(),
            intent: "i".to_owned(),
            request_id: "r".to_owned(),
            trace_context: None,
        };
        let us_storefront = "us".parse().unwrap();
        assert!(!caller(Role::Storefront).may_see(&us_storefront));
        assert!(
            caller(Role::Storefront)
                .owner(Some(&us_storefront))
                .is_err()
        );
        assert_eq!(
            caller(Role::Operator).owner(Some(&us_storefront)),
            Ok(us_storefront)
        );
    }
}
