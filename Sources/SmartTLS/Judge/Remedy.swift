// What the operator of a recipient host can do about a shortcoming, down to the record to publish.

import Policy
import TLS

/// One thing to do.
public struct Remedy: Sendable, Hashable, Codable {
    /// What it mends; nil: no verdict rests on it, the guidelines ask for it.
    public let reasonCode: ReasonCode?
    /// In Dutch.
    public let dutch: String
    /// In English.
    public let english: String

    private enum CodingKeys: String, CodingKey {
        case dutch, english
        case reasonCode = "reason_code"
    }

    /// What to do about a shortcoming; nil where there is nothing that the host's operator could do.
    ///
    /// - Parameters:
    ///   - domain: the recipient domain.
    ///   - findings: those on the host.
    ///   - leaf: the certificate that it presented, DER.
    init?(
        _ reason: ReasonCode, domain: String, host: RouteHost, port: Int, findings: Set<Finding>,
        leaf: [UInt8]?
    ) {
        let texts: (dutch: String, english: String)
        switch reason {
        case .starttlsNotSupported:
            texts = (
                "Zet STARTTLS (RFC 3207) aan op \(host.name).",
                "Turn on STARTTLS (RFC 3207) on \(host.name)."
            )
        case .tlsVersionTooLow:
            texts = (
                "Zet TLS 1.2 en 1.3 aan op \(host.name), en ouder uit (RFC 8996).",
                "Turn on TLS 1.2 and 1.3 on \(host.name), and older versions off (RFC 8996)."
            )
        case .ntaNotCapable:
            texts = (
                "Onderteken de zone van \(domain) met DNSSEC, en publiceer: \(domain). TXT \"v=NTA7516-1;startdate=JJJJ-MM;enddate=JJJJ-MM;provider=NAAM\".",
                "Sign the zone of \(domain) with DNSSEC, and publish: \(domain). TXT \"v=NTA7516-1;startdate=YYYY-MM;enddate=YYYY-MM;provider=NAME\"."
            )
        case .outsideEEA:
            texts = (
                "Neem mail aan op een adres binnen de Europese Economische Ruimte, en noem die host in het MX- of NTA 7516-record van \(domain).",
                "Take mail at an address inside the European Economic Area, and name that host in the MX or NTA 7516 record of \(domain)."
            )
        case .noForwardSecrecy:
            texts = (
                "Bied op \(host.name) suites met ECDHE aan.",
                "Offer suites with ECDHE on \(host.name)."
            )
        case .certificateExpired, .certificateNotYetValid, .certificateNotTrusted, .certificateRevoked:
            texts = (
                "Plaats op \(host.name) een geldig certificaat van een vertrouwde uitgever, met de tussencertificaten.",
                "Install a valid certificate from a trusted authority on \(host.name), with its intermediates."
            )
        case .certificateHostMismatch:
            texts = (
                "Neem \(host.referenceName) op in het certificaat (subject alternative name).",
                "Put \(host.referenceName) into the certificate (subject alternative name)."
            )
        case .daneRequired, .tlsaInvalid:
            guard !findings.contains(.daneInsecure) else {
                texts = (
                    "Onderteken de zone van \(domain) en die van \(host.name) met DNSSEC, en publiceer daarna een TLSA-record.",
                    "Sign the zone of \(domain) and that of \(host.name) with DNSSEC, and then publish a TLSA record."
                )
                break
            }
            let record = leaf.flatMap(TLSARecord.publicKey(of:)).map(\.presentation) ?? "3 1 1 …"
            let line = "_\(port)._tcp.\(host.name). IN TLSA \(record)"
            texts = ("Publiceer \(line)", "Publish \(line)")
        case .nameUnproven:
            texts = (
                "Onderteken de zone van \(domain) met DNSSEC.", "Sign the zone of \(domain) with DNSSEC."
            )
        case .dnssecInvalid:
            texts = (
                "Herstel de DNSSEC-handtekeningen van \(domain) en \(host.name).",
                "Mend the DNSSEC signatures of \(domain) and \(host.name)."
            )
        case .stsMXMismatch:
            texts = (
                "Zet \"mx: \(host.name)\" in https://mta-sts.\(domain)/.well-known/mta-sts.txt, en geef het record _mta-sts.\(domain) een nieuwe id.",
                "Put \"mx: \(host.name)\" into https://mta-sts.\(domain)/.well-known/mta-sts.txt, and give the record _mta-sts.\(domain) a new id."
            )
        case .stsLookupFailed:
            texts = (
                "Laat de naamservers van \(domain) antwoorden op TXT-vragen naar _mta-sts.\(domain), ook als dat record er niet is.",
                "Make the name servers of \(domain) answer TXT questions for _mta-sts.\(domain), also where there is no such record."
            )
        default: return nil
        }
        reasonCode = reason
        (dutch, english) = texts
    }

    /// What to do about what the guidelines call insufficient, a remedy for each kind of parameter.
    static func advice(_ graded: HostGrade, host: String) -> [Remedy] {
        GradedParameter.Aspect.allCases.compactMap { aspect in
            let names = graded.parameters.filter { $0.aspect == aspect && $0.grade == .insufficient }
                .map(\.value).joined(separator: ", ")
            return names.isEmpty ? nil : Remedy(aspect, names, host, graded.guidelines)
        }
    }

    private init(_ aspect: GradedParameter.Aspect, _ names: String, _ host: String, _ guidelines: String) {
        reasonCode = nil
        let texts: (dutch: String, english: String) =
            switch aspect {
            case .version: ("Zet \(names) uit op \(host)", "Turn off \(names) on \(host)")
            case .cipherSuite:
                ("Zet deze suites uit op \(host): \(names)", "Turn off these suites on \(host): \(names)")
            case .group:
                (
                    "Vervang op \(host) voor de sleuteluitwisseling \(names) door x25519 of secp256r1",
                    "Replace \(names) for the key exchange on \(host) by x25519 or secp256r1"
                )
            case .exchangeHash:
                (
                    "Onderteken op \(host) de sleuteluitwisseling met SHA-256 of beter in plaats van \(names)",
                    "Sign the key exchange on \(host) with SHA-256 or better instead of \(names)"
                )
            case .compression: ("Zet TLS-compressie uit op \(host)", "Turn off TLS compression on \(host)")
            case .renegotiation:
                (
                    "Zet veilige heronderhandeling (RFC 5746) aan op \(host)",
                    "Turn on secure renegotiation (RFC 5746) on \(host)"
                )
            case .earlyData:
                ("Zet 0-RTT (early data) uit op \(host)", "Turn off 0-RTT (early data) on \(host)")
            case .extendedMasterSecret:
                (
                    "Zet extended master secret (RFC 7627) aan op \(host)",
                    "Turn on the extended master secret (RFC 7627) on \(host)"
                )
            case .certificateKey, .certificateSignature:
                (
                    "Vervang het certificaat van \(host) (\(names)): RSA met 3072 bits of ECDSA, ondertekend met SHA-256 of beter",
                    "Replace the certificate of \(host) (\(names)): RSA with 3072 bits or ECDSA, signed with SHA-256 or better"
                )
            }
        dutch = texts.dutch + " (\(guidelines))."
        english = texts.english + " (\(guidelines))."
    }
}
