//! The rules as one nftables table. Pure: what nft is given on its standard input.

use std::fmt::Write as _;

use ipnet::IpNet;

use super::rules::{Inbound, Outbound, Rules};

/// The families that a table of ours may have: one for both protocols, and IPv4 alone where there is no IPv6.
pub(super) const FAMILIES: [&str; 2] = ["inet", "ip"];
pub(super) const TABLE: &str = "couplet";

/// One transaction: takes away what was there before and writes the rules. `ipv6`: whether the namespace has it.
pub(super) fn apply(rules: &Rules, ipv6: bool) -> String {
    let family = if ipv6 { "inet" } else { "ip" };
    let mut text = remove(&FAMILIES);
    let _ = writeln!(text, "table {family} {TABLE} {{");
    if let Some(outbound) = &rules.outbound {
        chain_out(&mut text, rules, outbound, ipv6);
    }
    if let Some(inbound) = &rules.inbound {
        chain_in(&mut text, inbound);
    }
    text.push_str("}\n");
    text
}

/// Removes our tables of these families, there or not: what was just added can be deleted.
pub(super) fn remove(families: &[&str]) -> String {
    let lines = families.iter().map(|family| format!("add table {family} {TABLE}\ndelete table {family} {TABLE}\n"));
    lines.collect()
}

fn chain_out(text: &mut String, rules: &Rules, outbound: &Outbound, ipv6: bool) {
    text.push_str("    chain output {\n        type nat hook output priority -100; policy accept;\n");
    let mut rule = |rule: &str| {
        let _ = writeln!(text, "        {rule}");
    };
    rule(&format!("meta skuid {} counter return comment \"the proxy's user\"", rules.uid));
    if let Some(gid) = rules.gid {
        rule(&format!("meta skgid {gid} counter return comment \"the proxy's group\""));
    }
    rule(&format!("meta mark {:#x} counter return comment \"the proxy's mark\"", rules.mark));
    rule("oifname \"lo\" counter return comment \"loopback and own addresses\"");
    for (family, wanted) in [("ip", true), ("ip6", ipv6)] {
        let networks = outbound.skip_networks.iter().filter(|network| is_ipv4(network) == (family == "ip"));
        if let Some(set) = set(networks).filter(|_| wanted) {
            rule(&format!("{family} daddr {set} counter return comment \"skipped networks\""));
        }
    }
    if let Some(set) = set(outbound.skip.iter()) {
        rule(&format!("tcp dport {set} counter return comment \"skipped ports\""));
    }
    rule(&format!("meta l4proto tcp counter redirect to :{}", outbound.port));
    text.push_str("    }\n");
}

fn chain_in(text: &mut String, inbound: &Inbound) {
    text.push_str("    chain prerouting {\n        type nat hook prerouting priority -100; policy accept;\n");
    if let Some(set) = set(inbound.skip.iter()) {
        let _ = writeln!(text, "        tcp dport {set} counter return comment \"admin and skipped ports\"");
    }
    let _ = writeln!(text, "        meta l4proto tcp counter redirect to :{}", inbound.port);
    text.push_str("    }\n");
}

fn set<T: ToString>(members: impl Iterator<Item = T>) -> Option<String> {
    let members: Vec<_> = members.map(|member| member.to_string()).collect();
    (!members.is_empty()).then(|| format!("{{ {} }}", members.join(", ")))
}

fn is_ipv4(network: &IpNet) -> bool {
    matches!(network, IpNet::V4(_))
}

#[cfg(test)]
mod tests {
    use super::super::rules::Ports;
    use super::*;

    fn rules() -> Rules {
        let skip_networks = vec!["169.254.169.254/32".parse().unwrap(), "fd00::/8".parse().unwrap()];
        let skip = vec![Ports::one(25), Ports { first: 8000, last: 8010 }];
        Rules {
            inbound: Some(Inbound { port: 15406, skip: vec![Ports::one(15420)] }),
            outbound: Some(Outbound { port: 15401, skip, skip_networks }),
            uid: 2102,
            gid: Some(2102),
            mark: 0x21,
        }
    }

    #[test]
    fn both_protocols_stand_in_one_table_that_replaces_the_one_before() {
        assert_eq!(
            apply(&rules(), true),
            r#"add table inet couplet
delete table inet couplet
add table ip couplet
delete table ip couplet
table inet couplet {
    chain output {
        type nat hook output priority -100; policy accept;
        meta skuid 2102 counter return comment "the proxy's user"
        meta skgid 2102 counter return comment "the proxy's group"
        meta mark 0x21 counter return comment "the proxy's mark"
        oifname "lo" counter return comment "loopback and own addresses"
        ip daddr { 169.254.169.254/32 } counter return comment "skipped networks"
        ip6 daddr { fd00::/8 } counter return comment "skipped networks"
        tcp dport { 25, 8000-8010 } counter return comment "skipped ports"
        meta l4proto tcp counter redirect to :15401
    }
    chain prerouting {
        type nat hook prerouting priority -100; policy accept;
        tcp dport { 15420 } counter return comment "admin and skipped ports"
        meta l4proto tcp counter redirect to :15406
    }
}
"#
        );
    }

    #[test]
    fn where_there_is_no_ipv6_nothing_speaks_of_it() {
        let text = apply(&rules(), false);
        assert!(text.contains("table ip couplet {") && !text.contains("ip6") && !text.contains("fd00"), "{text}");
    }

    #[test]
    fn what_is_empty_leaves_no_rule_behind() {
        let outbound = Outbound { port: 15401, skip: Vec::new(), skip_networks: Vec::new() };
        let text = apply(&Rules { inbound: None, outbound: Some(outbound), gid: None, ..rules() }, true);
        assert!(!text.contains("prerouting") && !text.contains("{ }") && !text.contains("skgid"), "{text}");
    }
}
