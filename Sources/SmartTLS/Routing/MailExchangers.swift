// From an MX RRset to the hosts worth looking up: the rules of RFC 5321 §5.1 and RFC 7505 as one pure function.
import DNS
import Policy
import SMTP

/// What an MX RRset says.
enum MailExchangers: Sendable, Hashable {
    /// Hosts by preference, at least one, at most `RouteLimits.hosts`.
    case hosts([Exchanger])
    /// Nothing can be delivered, now or later.
    case none(RoutingFailure)

    /// One usable MX record.
    struct Exchanger: Sendable, Hashable {
        let preference: UInt16
        let name: DomainName
    }

    /// Reads a non-empty RRset.
    ///
    /// - Parameters:
    ///   - ownName: this host's name; records that prefer it to others lead back to us and end the list.
    init(_ records: [DNSRecord], of domain: DomainName, ownName: DomainName?) {
        var all: [Exchanger] = []
        for case .mx(let preference, let exchange) in records {
            all.append(Exchanger(preference: preference, name: exchange))
        }
        // RFC 7505 §3: a null MX is one only when it stands alone.
        if all.count == 1, all[0].name == .root {
            self = .none(
                RoutingFailure(
                    reason: .nullMX, status: EnhancedStatusCode(5, 1, 10), detail: "\(domain) has a null MX"))
            return
        }
        // The target must be a host name: not the root, not an address, no odd bytes (RFC 5321 §5.1, RFC 2181 §10.3).
        var usable = all.filter(\.name.isHostName)
        guard !usable.isEmpty else {
            self = .none(.noHost("\(domain): no MX record names a host"))
            return
        }
        // RFC 5321 §5.1: from our own preference on, every host would send it back to us.
        if let own = usable.filter({ $0.name == ownName }).map(\.preference).min() {
            usable.removeAll { $0.preference >= own }
            guard !usable.isEmpty else {
                self = .none(
                    RoutingFailure(
                        reason: .mailLoop, status: EnhancedStatusCode(5, 4, 6),
                        detail: "\(domain): the best MX is this host"))
                return
            }
        }
        var seen: Set<DomainName> = []
        let sorted = usable.sorted { $0.preference < $1.preference }.filter { seen.insert($0.name).inserted }
        self = .hosts(Array(sorted.prefix(RouteLimits.hosts)))
    }
}

extension RoutingFailure {
    /// Hosts are named and none has an address (RFC 3463: 5.4.4, unable to route).
    static func noHost(_ detail: String) -> RoutingFailure {
        RoutingFailure(reason: .noMailHost, status: EnhancedStatusCode(5, 4, 4), detail: detail)
    }
}
