// What one case has been given in a world: addresses, port and certificates, and its texts with these filled in.

import Lab
import TLS
import X509

/// The place of one case.
struct Site: Sendable {
    let row: RecipientCase
    let mailPort: Int
    /// Of its mail hosts, in order.
    let addresses: [String]
    /// Of its mail hosts, in order; nil: no STARTTLS.
    let materials: [Material?]
    /// The certificates beside those.
    let seconds: [Material?]
    /// Of its policy host.
    let policyAddress: String

    init(_ row: RecipientCase, number: Int, mailPort: Int, _ authorities: Authorities) throws {
        self.row = row
        self.mailPort = mailPort
        let block = "\(number / 250).\(number % 250 + 1)"
        addresses = row.hosts.indices.map { "127.\(20 + $0).\(block)" }
        policyAddress = "127.30.\(block)"
        func material(_ kind: CertificateKind?, _ host: MailHost) throws -> Material? {
            guard let kind else { return nil }
            return try authorities.issue(
                kind, host.names.map(row.absolute), commonName: host.commonName.map(row.absolute))
        }
        materials = try row.hosts.map { try material($0.certificate, $0) }
        seconds = try row.hosts.map { try material($0.second, $0) }
    }

    /// Its zones.
    var zones: [LabZone] {
        ([LabZone(row.zoneName, row.signing, row.zone)] + row.otherZones).map { zone in
            var signing = zone.signing
            if case .altered(let name, let type) = signing {
                signing = .altered(name: filled(name), type: type)
            }
            return LabZone(filled(zone.name), signing, zone.records.map(filled))
        }
    }

    /// Its lookups that fail.
    var faults: [(FaultyNameServer.Question, FaultyNameServer.Fault)] {
        row.faults.map { fault in
            let name = fault.name == "@" ? row.zoneName : filled(fault.name) + "." + row.zoneName
            return (FaultyNameServer.Question(name, fault.type.rawValue), fault.fault)
        }
    }

    /// A text with its placeholders filled in.
    func filled(_ text: String) -> String {
        var filled = ""
        var rest = text[...]
        while let open = rest.firstIndex(of: "{"), let close = rest[open...].firstIndex(of: "}") {
            filled += rest[..<open] + value(of: String(rest[rest.index(after: open)..<close]))
            rest = rest[rest.index(after: close)...]
        }
        return filled + rest
    }

    private func value(of placeholder: String) -> String {
        if placeholder == "P" { return "\(mailPort)" }
        if placeholder == "D" { return row.zoneName }
        if placeholder == "N" { return row.name }
        if placeholder == "W" { return policyAddress }
        if let host = index(placeholder) { return addresses[host] }
        return record(placeholder) ?? placeholder
    }

    /// `3 1 1 A`, `3 1 1 A.second`, `2 1 1 A.ca`, `2 1 1 A.root`; anything else stands for itself.
    private func record(_ text: String) -> String? {
        let words = text.split(separator: " ").map(String.init)
        guard words.count == 4, let usage = UInt8(words[0]), let selector = UInt8(words[1]),
            let type = UInt8(words[2])
        else { return nil }
        let parts = words[3].split(separator: ".").map(String.init)
        guard let host = parts.first.flatMap(index), let material = materials[host] else { return nil }
        let certificate: Certificate? =
            switch parts.dropFirst().first {
            case "second": seconds[host]?.identity.certificate
            case "ca": material.authority
            case "root": material.root
            default: material.identity.certificate
            }
        return certificate.map {
            TLSARecord.matching($0, usage: usage, selector: selector, matchingType: type).zoneText
        }
    }

    private func index(_ letter: String) -> Int? {
        ["A", "B", "C"].firstIndex(of: letter).flatMap { $0 < addresses.count ? $0 : nil }
    }
}

extension RecipientCase {
    /// The name of its zone.
    package var zoneName: String { "\(name).test" }
    /// The recipient domain.
    package var domain: String { absolute(recipient) }

    /// A name relative to the zone, whole and without the last dot.
    package func absolute(_ name: String) -> String {
        if name == "@" { return zoneName }
        let name = name.replacing("{N}", with: self.name)
        return name.hasSuffix(".") ? String(name.dropLast()) : "\(name).\(zoneName)"
    }
}
