// The way to the TLSA records of one host (RFC 7672 §2.2), as a value: which question comes next, and what follows from
// its answer. Whoever asks is a loop around it.
//
// - Where the MX records or the address are insecure, TLSA is not asked for at all: the name servers of unsigned zones
//   may fail on the type (outlook.com's do), and their failure would stop the mail.
// - A host name that is an alias has two TLSA base domains: the end of its chain where the whole chain is secure, then
//   the name itself (§2.2.2, §2.2.3). Where the chain leaves signed zones the name itself still counts, if its own
//   CNAME is secure; the status of the address does not tell that, so the CNAME is asked for.
// - NODATA and NXDOMAIN are answers. A failure is none: it ends the search with `unknown`, and the second base
//   domain is not tried, since what failed may hold the records that count.
import DNS
import TLS

/// The search for the TLSA records that go with one address answer of a host.
struct TLSADiscovery: Sendable {
    /// What comes next.
    enum Step: Sendable, Hashable {
        /// Ask for the CNAME of the host name.
        case askAlias(DomainName)
        /// Ask for TLSA records at this name.
        case askRecords(DomainName)
        /// The search has ended.
        case ended(TLSAStatus)
    }

    /// What comes next.
    private(set) var step: Step
    private let host: DomainName
    private let port: Int
    private let names: [DomainName]
    /// Base domains that are left, the one being asked about first.
    private var bases: [DomainName] = []
    /// Whether every absence so far was proven.
    private var isProven = true

    /// Begins a search.
    ///
    /// - Parameters:
    ///   - host: the name of the host as MX or the operator gives it.
    ///   - port: where it is connected to; TLSA records are per port.
    ///   - hostSecurity: what DNSSEC says of how that name became known.
    ///   - address: the answer that named the addresses.
    ///   - names: the next-hop domain and the end of its alias chain, which a certificate below a DANE-TA record may carry
    ///     too (§3.2.2).
    init(
        host: DomainName, port: Int, hostSecurity: DNSSecurity, address: DNSAnswer, names: [DomainName]
    ) {
        self.host = host
        self.port = port
        self.names = names
        step = .ended(.insecure)
        guard hostSecurity == .secure else { return }
        if address.security == .secure {
            begin(address.isAlias ? [address.canonicalName, host] : [host])
        } else if address.isAlias {
            step = .askAlias(host)
        }
    }

    /// Takes the answer to what `step` asks.
    mutating func take(_ answer: Result<DNSAnswer, DNSFailure>) {
        switch (step, answer) {
        case (.ended, _): return
        case (_, .failure(let failure)): step = .ended(.unknown(failure))
        case (.askAlias, .success(let answer)):
            if answer.security == .secure, !answer.records.isEmpty {
                begin([host])
            } else {
                step = .ended(.insecure)
            }
        case (.askRecords, .success(let answer)):
            if answer.security == .secure, !answer.records.isEmpty {
                let reference = DANEReference(
                    rrset: answer.records, baseDomain: bases[0], furtherNames: names)
                step = .ended(.published(reference))
            } else {
                absent(isProven: answer.security == .secure)
            }
        }
    }

    private mutating func begin(_ bases: [DomainName]) {
        self.bases = bases
        ask()
    }

    private mutating func absent(isProven: Bool) {
        self.isProven = self.isProven && isProven
        bases.removeFirst()
        ask()
    }

    private mutating func ask() {
        guard let base = bases.first else {
            step = .ended(isProven ? .absent : .insecure)
            return
        }
        // A name that is too long to exist has no records.
        guard let name = base.below("_\(port)._tcp") else { return absent(isProven: true) }
        step = .askRecords(name)
    }
}
