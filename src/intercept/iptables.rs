//! The rules as chains of iptables, one family at a time. Pure: what iptables-restore is given on its standard input.

use std::fmt::Write as _;

use ipnet::IpNet;

use super::rules::{Inbound, Outbound, Ports, Rules};

/// The protocol family that a tool of iptables works on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Family {
    Ipv4,
    Ipv6,
}

/// Our chains, and the chain of the kernel that leads to each.
const OUT: (&str, &str) = ("COUPLET_OUT", "OUTPUT");
const IN: (&str, &str) = ("COUPLET_IN", "PREROUTING");

/// One `multiport` takes so many ports; a range counts as two.
const MULTIPORT: usize = 15;

/// What is there already of ours, of the nat table of one family.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Present {
    out: Chain,
    inn: Chain,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Chain {
    exists: bool,
    jumps: usize,
}

impl Present {
    /// Reads what `iptables -t nat -S` prints.
    pub(super) fn read(listing: &str) -> Self {
        let chain = |(ours, hook): (&str, &str)| Chain {
            exists: listing.lines().any(|line| line.trim() == format!("-N {ours}")),
            jumps: listing.lines().filter(|line| line.trim() == format!("-A {hook} -j {ours}")).count(),
        };
        Self { out: chain(OUT), inn: chain(IN) }
    }

    pub(super) fn any(self) -> bool {
        [self.out, self.inn].iter().any(|chain| chain.exists || chain.jumps > 0)
    }

    /// The names of our chains that are there.
    pub(super) fn chains(self) -> Vec<&'static str> {
        let chains = [(self.out, OUT), (self.inn, IN)];
        chains.into_iter().filter(|(chain, _)| chain.exists).map(|(_, (ours, _))| ours).collect()
    }
}

/// One transaction of iptables-restore (with `--noflush`) that leaves exactly these rules of ours.
pub(super) fn apply(rules: &Rules, family: Family, present: Present) -> String {
    let outbound = rules.outbound.as_ref().map(|outbound| chain_out(rules, outbound, family));
    let inbound = rules.inbound.as_ref().map(chain_in);
    table(outbound, inbound, present)
}

/// One transaction that leaves none.
pub(super) fn remove(present: Present) -> String {
    table(None, None, present)
}

fn table(outbound: Option<Vec<String>>, inbound: Option<Vec<String>>, present: Present) -> String {
    let mut text = String::from("*nat\n");
    let sides = [(OUT, outbound, present.out), (IN, inbound, present.inn)];
    for ((ours, _), rules, there) in &sides {
        if rules.is_some() || there.exists {
            // Makes the chain, or empties the one that is there.
            let _ = writeln!(text, ":{ours} - [0:0]");
        }
    }
    for ((ours, hook), rules, there) in sides {
        let wanted = usize::from(rules.is_some());
        for rule in rules.iter().flatten() {
            let _ = writeln!(text, "-A {ours} {rule}");
        }
        for _ in wanted..there.jumps {
            let _ = writeln!(text, "-D {hook} -j {ours}");
        }
        for _ in there.jumps..wanted {
            let _ = writeln!(text, "-A {hook} -j {ours}");
        }
        if rules.is_none() && there.exists {
            let _ = writeln!(text, "-X {ours}");
        }
    }
    text.push_str("COMMIT\n");
    text
}

fn chain_out(rules: &Rules, outbound: &Outbound, family: Family) -> Vec<String> {
    let mut chain = vec![format!("-m owner --uid-owner {} -j RETURN", rules.uid)];
    chain.extend(rules.gid.map(|gid| format!("-m owner --gid-owner {gid} -j RETURN")));
    chain.push(format!("-m mark --mark {:#x} -j RETURN", rules.mark));
    chain.push("-o lo -j RETURN".to_owned());
    let networks =
        outbound.skip_networks.iter().filter(|network| matches!(network, IpNet::V4(_)) == (family == Family::Ipv4));
    chain.extend(networks.map(|network| format!("-d {network} -j RETURN")));
    chain.extend(skip(&outbound.skip));
    chain.push(format!("-p tcp -j REDIRECT --to-ports {}", outbound.port));
    chain
}

fn chain_in(inbound: &Inbound) -> Vec<String> {
    let mut chain = skip(&inbound.skip);
    chain.push(format!("-p tcp -j REDIRECT --to-ports {}", inbound.port));
    chain
}

/// As few rules as `multiport` allows.
fn skip(ports: &[Ports]) -> Vec<String> {
    let mut rules: Vec<(usize, Vec<String>)> = Vec::new();
    for ports in ports {
        let (weight, text) = match ports.first == ports.last {
            true => (1, ports.first.to_string()),
            false => (2, format!("{}:{}", ports.first, ports.last)),
        };
        match rules.last_mut() {
            Some((taken, list)) if *taken + weight <= MULTIPORT => {
                *taken += weight;
                list.push(text);
            }
            _ => rules.push((weight, vec![text])),
        }
    }
    let rule = |(_, list): (usize, Vec<String>)| format!("-p tcp -m multiport --dports {} -j RETURN", list.join(","));
    rules.into_iter().map(rule).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rules() -> Rules {
        let skip_networks = vec!["169.254.169.254/32".parse().unwrap(), "fd00::/8".parse().unwrap()];
        Rules {
            inbound: Some(Inbound { port: 15406, skip: vec![Ports::one(15420)] }),
            outbound: Some(Outbound { port: 15401, skip: vec![Ports::one(25)], skip_networks }),
            uid: 2102,
            gid: None,
            mark: 0x21,
        }
    }

    const THERE: &str = "-P PREROUTING ACCEPT\n-P OUTPUT ACCEPT\n-N COUPLET_IN\n-N COUPLET_OUT\n\
                         -A PREROUTING -j COUPLET_IN\n-A OUTPUT -j COUPLET_OUT\n-A COUPLET_IN -p tcp -j REDIRECT\n";

    #[test]
    fn each_family_gets_its_own_rules() {
        assert_eq!(
            apply(&rules(), Family::Ipv4, Present::default()),
            "*nat\n\
             :COUPLET_OUT - [0:0]\n\
             :COUPLET_IN - [0:0]\n\
             -A COUPLET_OUT -m owner --uid-owner 2102 -j RETURN\n\
             -A COUPLET_OUT -m mark --mark 0x21 -j RETURN\n\
             -A COUPLET_OUT -o lo -j RETURN\n\
             -A COUPLET_OUT -d 169.254.169.254/32 -j RETURN\n\
             -A COUPLET_OUT -p tcp -m multiport --dports 25 -j RETURN\n\
             -A COUPLET_OUT -p tcp -j REDIRECT --to-ports 15401\n\
             -A OUTPUT -j COUPLET_OUT\n\
             -A COUPLET_IN -p tcp -m multiport --dports 15420 -j RETURN\n\
             -A COUPLET_IN -p tcp -j REDIRECT --to-ports 15406\n\
             -A PREROUTING -j COUPLET_IN\n\
             COMMIT\n"
        );
        let ipv6 = apply(&rules(), Family::Ipv6, Present::default());
        assert!(ipv6.contains("-d fd00::/8") && !ipv6.contains("169.254"), "{ipv6}");
    }

    #[test]
    fn what_is_there_is_replaced_and_not_doubled() {
        let text = apply(&rules(), Family::Ipv4, Present::read(THERE));
        assert!(text.contains(":COUPLET_OUT - [0:0]") && !text.contains("-A OUTPUT"), "{text}");
        let one = apply(&Rules { outbound: None, ..rules() }, Family::Ipv4, Present::read(THERE));
        assert!(one.contains("-D OUTPUT -j COUPLET_OUT\n-X COUPLET_OUT\n") && !one.contains("-D PREROUTING"), "{one}");
    }

    #[test]
    fn what_others_wrote_is_neither_taken_for_ours_nor_touched() {
        let theirs = "-N COUPLET_OUTER\n-A OUTPUT -j COUPLET_OUTER\n-A OUTPUT -p tcp -j DOCKER\n";
        assert!(!Present::read(theirs).any());
        assert_eq!(remove(Present::read(theirs)), "*nat\nCOMMIT\n");
    }

    #[test]
    fn jumps_that_were_doubled_are_all_removed() {
        let present = Present::read(&format!("{THERE}-A OUTPUT -j COUPLET_OUT\n"));
        assert_eq!(remove(present).matches("-D OUTPUT -j COUPLET_OUT").count(), 2);
        assert_eq!(present.chains(), ["COUPLET_OUT", "COUPLET_IN"]);
    }

    #[test]
    fn more_ports_than_one_rule_takes_make_another_rule() {
        let ports: Vec<_> = (1..=8).map(|n| Ports { first: n * 100, last: n * 100 + 9 }).collect();
        let rules = skip(&ports);
        assert_eq!(rules.len(), 2, "{rules:?}");
        assert!(rules[1].contains("--dports 800:809 "), "{rules:?}");
    }
}
