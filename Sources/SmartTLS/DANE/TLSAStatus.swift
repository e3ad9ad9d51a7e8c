// What DNS says of the TLSA records of one address of a host. Four facts that nothing may mix up: records are there,
// there are provably none, DNSSEC does not reach so far, or nobody knows (RFC 7672 §2.1, §2.2).
import DNS
import TLS

/// Whether a host is to be held against TLSA records, and which.
public enum TLSAStatus: Sendable, Hashable {
    /// A secure TLSA RRset, with the names that go with it. Its records may all be unusable.
    case published(DANEReference)
    /// DNSSEC proves that there are none, or there can be none: an operator routed to an address.
    case absent
    /// The MX records, the address or the TLSA records are provably not signed: no DANE (RFC 7672 §2.2.1, §2.2.2).
    case insecure
    /// A lookup failed. The host may have records, so that nothing is sent to it now (RFC 7672 §2.1.2).
    case unknown(DNSFailure)
}

extension DANEReference {
    /// At most `RouteLimits.tlsaRecords` records of an RRset (law 9), the well-formed ones first, in an order that is always the
    /// same: name servers rotate theirs, and a session is reused only under the same set.
    ///
    /// Records that are left out cannot match. That refuses more and never less.
    init(rrset records: [DNSRecord], baseDomain: DomainName, furtherNames: [DomainName]) {
        var seen: Set<TLSARecord> = []
        var all: [TLSARecord] = []
        for case .tlsa(let usage, let selector, let matchingType, let data) in records {
            let record = TLSARecord(
                usage: usage, selector: selector, matchingType: matchingType, data: data)
            if seen.insert(record).inserted { all.append(record) }
        }
        all.sort { left, right in
            if left.isWellFormed != right.isWellFormed { return left.isWellFormed }
            let (one, other) = (left.parameters, right.parameters)
            return one == other
                ? left.data.lexicographicallyPrecedes(right.data) : one.lexicographicallyPrecedes(other)
        }
        var names: [String] = []
        for name in furtherNames.map(\.text) where name != baseDomain.text && !names.contains(name) {
            names.append(name)
        }
        self.init(
            records: Array(all.prefix(RouteLimits.tlsaRecords)), baseDomain: baseDomain.text,
            furtherNames: names)
    }
}

extension DANEReference {
    /// Whether a record stands ready for the next certificate, as internet.nl counts it: more than one of usage 3, or one of
    /// usage 3 beside one of usage 2.
    var isRollover: Bool {
        let (own, authorities) = (
            records.count { $0.isWellFormed && $0.usage == 3 },
            records.count { $0.isWellFormed && $0.usage == 2 }
        )
        return own > 1 || own > 0 && authorities > 0
    }
}

extension TLSARecord {
    /// Whether a sender of mail may use it, as far as can be seen without reading its data: usage 2 or 3 (RFC 7672 §3.1.3),
    /// parameters that are known and a digest of the right length. OpenSSL has the last word.
    var isWellFormed: Bool {
        guard usage == 2 || usage == 3, selector <= 1 else { return false }
        switch matchingType {
        case 0: return !data.isEmpty
        case 1: return data.count == 32
        case 2: return data.count == 64
        default: return false
        }
    }

    fileprivate var parameters: [UInt8] { [usage, selector, matchingType] }
}
