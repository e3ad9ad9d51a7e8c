// What a scan is about and what it was made with: an address of a host under a name, and the certificate and TLSA records that a
// delivery saw there.

import Crypto
import DNS
import TLS

/// One address of a host, as it is asked for. Recipient domains that share it share its scan.
public struct ScanSite: Sendable, Hashable {
    /// The name to ask for by SNI, in lower-case A-labels.
    public let host: String
    /// Where it is connected to.
    public let address: IPAddress
    /// The port.
    public let port: Int

    /// Takes the parts.
    public init(host: String, address: IPAddress, port: Int) {
        (self.host, self.address, self.port) = (host, address, port)
    }

    /// The site of one address of a route.
    ///
    /// - Parameter port: `delivery.port`, for hosts that have none of their own.
    init(_ host: RouteHost, _ address: RouteAddress, port: Int) {
        var name = host.referenceName
        if case .published(let reference) = address.tlsa { name = reference.baseDomain }
        self.init(host: name, address: address.address, port: host.port ?? port)
    }
}

/// What a connection to a site showed: with anything else a scan has nothing to do with it.
public struct ScanSighting: Sendable, Hashable {
    /// SHA-256 of the leaf certificate in hexadecimal.
    public let certificate: String
    /// SHA-256 of what DNSSEC says of TLSA records, in hexadecimal: these, or none; nil: it does not reach so far.
    public let tlsa: String?
    /// For how long the DNS answers that led there hold.
    public let ttl: Duration

    /// Takes the parts.
    public init(certificate: String, tlsa: String?, ttl: Duration) {
        (self.certificate, self.tlsa, self.ttl) = (certificate, tlsa, ttl)
    }
}

extension TLSAStatus {
    /// The digest of the records in force and the name that they are at, or of the fact that there are provably none; nil where
    /// DNSSEC does not reach so far. The recipient domain, which may be a further name below them, is not in it: the same host
    /// serves many, and MX records that are not signed lead some of them there.
    var digest: String? {
        let reference: DANEReference
        switch self {
        case .published(let records): reference = records
        case .absent: return CanonicalJSON.digest(Array("no TLSA records".utf8))
        case .insecure, .unknown: return nil
        }
        var hash = SHA256()
        hash.update(data: Array(reference.baseDomain.utf8) + [0])
        for record in reference.records {
            let length = UInt32(clamping: record.data.count)
            hash.update(data: [record.usage, record.selector, record.matchingType])
            hash.update(data: [24, 16, 8, 0].map { UInt8(truncatingIfNeeded: length >> $0) })
            hash.update(data: record.data)
        }
        return CanonicalJSON.hexadecimal(hash.finalize())
    }
}

extension Examination {
    /// What the connection showed of the site; nil without TLS or a certificate.
    public var sighting: ScanSighting? {
        guard let certificate = findings.evidence.certificateDigest else { return nil }
        // Where an operator named an address there was nothing to ask.
        let ttl = (route.lookups + host.lookups).map(\.ttl).min().map { Duration.seconds(Int64($0)) }
        return ScanSighting(
            certificate: certificate, tlsa: address.tlsa.digest, ttl: ttl ?? .seconds(1 << 31))
    }
}
