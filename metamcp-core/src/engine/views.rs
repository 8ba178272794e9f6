//! What of the catalogue each tenant may use. Every look that is made for somebody goes through here, so that what a tenant may not use is in
//! no route, no reason, no list and no count of theirs.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, PoisonError},
};

use crate::{id::TenantId, matching::Catalog};

/// One snapshot of the catalogue, and the part of it that each tenant may use, made when it is first asked for.
#[derive(Debug, Default)]
pub(super) struct Views {
    all: Arc<Catalog>,
    /// The tenants that some server's terms name; all others are alike, so there is one view more than there are of these at most.
    named: Arc<BTreeSet<TenantId>>,
    /// Whether any server is not for all. Short sections, never held over an await.
    of: Mutex<BTreeMap<Option<TenantId>, Arc<Catalog>>>,
    restricted: bool,
}

impl Views {
    /// The views of a snapshot. `named` are the tenants that terms name; `restricted`: some server is not for all.
    pub(super) fn new(all: Catalog, named: Arc<BTreeSet<TenantId>>, restricted: bool) -> Self {
        Self { all: Arc::new(all), named, of: Mutex::default(), restricted }
    }

    /// All there is.
    pub(super) fn all(&self) -> &Arc<Catalog> {
        &self.all
    }

    /// What a tenant may use. The same snapshot, with the same revision, for as long as these views last.
    pub(super) fn of(&self, tenant: &TenantId) -> Arc<Catalog> {
        if !self.restricted {
            return Arc::clone(&self.all);
        }
        let class = self.named.contains(tenant).then(|| tenant.clone());
        let mut of = self.of.lock().unwrap_or_else(PoisonError::into_inner);
        let view = of.entry(class).or_insert_with(|| Arc::new(self.all.only(|c| c.terms.admits(tenant))));
        Arc::clone(view)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        id::ServerName,
        json::RawJson,
        matching::{Capability, ServerTerms},
    };

    fn tool(server: &str, tenants: Option<&[&str]>) -> Arc<Capability> {
        let tenants = tenants.map(|names| names.iter().map(|name| TenantId::new(name).unwrap()).collect());
        let terms = Arc::new(ServerTerms { tenants, ..ServerTerms::default() });
        let definition = RawJson::parse(r#"{"name":"t"}"#).unwrap();
        Arc::new(Capability::from_definition(&ServerName::new(server).unwrap(), terms, definition).unwrap())
    }

    #[test]
    fn a_tenant_sees_what_it_may_use_and_strangers_share_one_view() {
        let all = Catalog::new([tool("open", None), tool("ours", Some(&["a"])), tool("nobodys", Some(&[]))]);
        let tenant = |name: &str| TenantId::new(name).unwrap();
        let views = Views::new(all, Arc::new([tenant("a")].into()), true);
        let seen = |name: &str| -> Vec<String> {
            views.of(&tenant(name)).capabilities().iter().map(|c| c.id.server().to_string()).collect()
        };
        assert_eq!((seen("a"), seen("b")), (vec!["open".to_owned(), "ours".to_owned()], vec!["open".to_owned()]));
        assert_eq!(views.of(&tenant("b")).revision(), views.of(&tenant("c")).revision());
        assert_eq!(views.of(&tenant("a")).revision(), views.of(&tenant("a")).revision());
        assert_eq!(views.of.lock().unwrap().len(), 2);
    }
}
