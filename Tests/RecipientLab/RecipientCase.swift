// One recipient of the lab: the rule it is about, what its part of the world looks like, and the verdicts that must follow.
// `README.md` beside this file says how to add one.

import Lab
import SmartTLS
import TLS

/// One case. Everything in it is relative to its own domain, `<name>.test`.
package struct RecipientCase: Sendable, CustomStringConvertible {
    /// Unique, and a DNS label.
    package let name: String
    /// The rule, with its source: "RFC 7672 §2.2.2: …".
    package let rule: String
    /// The recipient's domain relative to the zone; `@`: the zone itself.
    package var recipient = "@"
    /// How the zone is signed.
    package var signing = LabZone.Signing.signed
    /// The records of the zone, with placeholders (README).
    package var zone = RecipientCase.plain
    /// Other zones, named whole, with placeholders too.
    package var otherZones: [LabZone] = []
    /// Its mail hosts: `{A}` is the address of the first, `{B}` of the second, and so on.
    package var hosts = [MailHost()]
    /// What serves its MTA-STS policy; nil: nothing.
    package var policyHost: PolicyHost?
    /// The policy that is held from an earlier day.
    package var heldPolicy: String?
    /// An operator's static route, `host:port`.
    package var route: String?
    /// Lookups that fail.
    package var faults: [LookupFault] = []
    /// What it comes to.
    package let verdicts: Verdicts
    /// What must be among the findings on its hosts.
    package var findings: [Finding] = []
    /// What its first host is asked for by SNI, relative to the zone; nil: not looked at.
    package var serverName: String?
    /// The grade of its first host by NCSC-NL 2025-05; nil: not looked at.
    package var grade: String?

    /// Its name.
    package var description: String { name }

    /// An MX and its address.
    static let plain = "@ MX 10 mx\nmx A {A}\n"
    /// The same and a record that says that there is an MTA-STS policy.
    static let withPolicy = plain + "_mta-sts TXT \"v=STSv1; id=1\"\nmta-sts A {W}\n"

    /// An MX, its address and these TLSA records.
    static func published(_ records: String...) -> String {
        plain + records.map { "_{P}._tcp.mx TLSA {\($0)}\n" }.joined()
    }
}

/// Verdict and reason under each built-in ruleset, as `deliver dane-authenticated`.
package struct Verdicts: Sendable, Hashable {
    package let opportunistic: String
    package let secure: String
    package let nta7516: String

    init(opportunistic: String, secure: String, nta7516: String = "refuse dane-required") {
        (self.opportunistic, self.secure, self.nta7516) = (opportunistic, secure, nta7516)
    }

    /// The same under each.
    static func all(_ verdict: String) -> Verdicts {
        Verdicts(opportunistic: verdict, secure: verdict, nta7516: verdict)
    }

    /// A TLSA record matches.
    static let dane = all("deliver dane-authenticated")
    /// No DANE, and a trusted certificate with the name of the host.
    static let trusted = Verdicts(
        opportunistic: "deliver tls-authenticated", secure: "deliver tls-authenticated")

    /// No DANE, and a certificate that proves nothing.
    static func untrusted(_ reason: String) -> Verdicts {
        Verdicts(opportunistic: "deliver tls-unauthenticated", secure: "refuse \(reason)")
    }

    /// By the name of the ruleset.
    package var byRuleset: [(ruleset: String, verdict: String)] {
        [("opportunistic", opportunistic), ("secure", secure), ("nta7516", nta7516)]
    }
}

/// A kind of certificate, as `Authorities` makes it.
enum CertificateKind: Sendable, Hashable, CaseIterable {
    /// From the trusted root, P-256.
    case trusted
    /// From an intermediate below the trusted root, presented.
    case trustedBelow
    /// The same, not presented.
    case missingIntermediate
    /// From the trusted root with an RSA key, 2048 bits.
    case trustedRSA
    /// Its own issuer.
    case selfSigned
    /// Its own issuer, expired; give it another name too.
    case worst
    /// From the trusted root, past its last day.
    case expired
    /// From the trusted root, before its first day.
    case notYetValid
    /// From the trusted root, for clients.
    case forClients
    /// From the trusted root, for signing of code.
    case forCode
    /// From an intermediate below a root that nobody trusts; the intermediate is presented.
    case privateBelow
    /// The same with the root.
    case privateWithRoot
    /// The same, the leaf expired.
    case privateExpired
    /// The same, the leaf before its first day.
    case privateNotYetValid
    /// The same, the leaf for clients.
    case privateForClients
    /// As `privateWithRoot`, the root first and two strangers among them.
    case privateShuffled
    /// Below a private root that allows no authority below itself.
    case privateTooDeep
    /// Issued by the owner of an ordinary certificate below the private intermediate.
    case impostor
    /// The same below the trusted root.
    case trustedImpostor
    /// From the trusted root, RSA with 1024 bits.
    case weakKey
    /// From the trusted root, signed with SHA-1.
    case weakSignature
}

/// One mail host.
package struct MailHost: Sendable {
    /// Its certificate; nil: no STARTTLS.
    var certificate: CertificateKind?
    /// The names in it, relative to the zone unless they end with a dot.
    var names = ["mx"]
    /// The common name of its subject; nil: the first of its names.
    var commonName: String?
    /// Protocol versions.
    var versions = (oldest: TLSVersion.tls12, newest: TLSVersion.tls13)
    /// Suites of TLS 1.2 and older, as OpenSSL writes them; nil: good ones.
    var suites: String?
    /// Groups and suites of TLS 1.3 on Python's server, which takes the place of ours.
    var offer: PythonSMTPServer.Offer?
    /// A certificate with a key of the other kind, on the same server.
    var second: CertificateKind?
    /// What it does instead of what is ordinary, each time.
    var answers: [ScriptedStep: ScriptedAnswer] = [:]
    /// What it says in clear after the 220 to STARTTLS.
    var octetsForTLS: [UInt8]?
    /// Nothing listens at its address.
    var isDown = false

    init(_ certificate: CertificateKind? = .trusted, names: [String] = ["mx"]) {
        (self.certificate, self.names) = (certificate, names)
    }

    /// A host with a trusted certificate, on Python's server.
    static func offering(groups: String? = nil, suites: String? = nil) -> MailHost {
        var host = MailHost()
        host.offer = .init(groups: groups, suites: suites)
        host.versions = (.tls13, .tls13)
        return host
    }

    /// A host with an RSA and an ECDSA certificate side by side.
    static func dual(_ newest: TLSVersion) -> MailHost {
        var host = MailHost(.trustedRSA)
        (host.offer, host.second) = (.init(), .trusted)
        host.versions = (newest, newest)
        return host
    }

    /// A host with a trusted certificate that does this at one step.
    static func answering(_ step: ScriptedStep, _ answer: ScriptedAnswer) -> MailHost {
        var host = MailHost()
        host.answers[step] = answer
        return host
    }

    /// Nothing listens there.
    static var down: MailHost {
        var host = MailHost(nil)
        host.isDown = true
        return host
    }
}

/// What serves an MTA-STS policy at `{W}`.
package struct PolicyHost: Sendable {
    /// What it does with a request.
    enum Behaviour: Sendable {
        /// Serves the policy as text/plain.
        case serves
        /// Serves it with another status, and further fields of the head.
        case status(Int, fields: String = "")
        /// Serves it as another type.
        case type(String)
        /// Announces more than it sends, and ends the connection.
        case truncated
        /// Takes the request and says nothing.
        case silent
        /// Nothing listens.
        case down
    }

    /// The body.
    let policy: String
    var behaviour = Behaviour.serves
    var certificate = CertificateKind.trusted
    /// The names in its certificate, relative to the zone.
    var names = ["mta-sts"]

    init(_ policy: String, _ behaviour: Behaviour = .serves) {
        (self.policy, self.behaviour) = (policy, behaviour)
    }

    /// The body of a policy.
    static func policy(_ mode: String, _ hosts: String...) -> String {
        "version: STSv1\r\nmode: \(mode)\r\n" + hosts.map { "mx: \($0)\r\n" }.joined() + "max_age: 86400\r\n"
    }
}

/// A lookup that fails.
package struct LookupFault: Sendable {
    /// Relative to the zone, with placeholders; `@`: the zone itself.
    let name: String
    let type: LookupType
    let fault: FaultyNameServer.Fault

    init(_ name: String, _ type: LookupType, _ fault: FaultyNameServer.Fault) {
        (self.name, self.type, self.fault) = (name, type, fault)
    }
}

/// The types that are looked up, by number.
enum LookupType: UInt16, Sendable {
    case a = 1
    case mx = 15
    case txt = 16
    case aaaa = 28
    case tlsa = 52
}

extension RecipientCase {
    /// Whether something in it never answers, so that it is judged with little patience.
    package var isSilent: Bool {
        if faults.contains(where: { $0.fault == .silence }) { return true }
        if case .silent? = policyHost?.behaviour { return true }
        return hosts.contains { $0.answers.values.contains(.silence) }
    }

    /// Whether it is about more than DANE and certificates: an MTA-STS policy, an NTA 7516 record, a static route.
    package var isOurs: Bool {
        policyHost != nil || heldPolicy != nil || route != nil
            || ["nta-", "sts-record-"].contains { name.hasPrefix($0) }
    }

    /// Whether a resolver that meets its faults may be the worse for the lookups of others.
    var needsOwnResolver: Bool { faults.contains { $0.fault == .silence || $0.fault == .truncated } }
}
