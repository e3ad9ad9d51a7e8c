// The attacks of DowngradeTests.

import Lab
import NIOCore

extension Attack {
    static let rows: [Attack] = stripped + injected + rolledBack + swapped + forged + policies

    private static let broken = all("deferred tls-handshake-failed")

    private static func both(
        _ what: String, _ ends: [String: String], _ does: @escaping @Sendable (SocketAddress) -> Interception
    ) -> [Attack] {
        [World.dane, .plain].map { Attack(what: what, world: $0, connections: does, ends: ends) }
    }

    private static let stripped: [Attack] =
        [
            Attack(
                what: "STARTTLS stripped from EHLO", world: .dane, connections: { _ in .stripsSTARTTLS },
                ends: all("deferred starttls-not-supported")),
            Attack(
                what: "STARTTLS stripped from EHLO", world: .plain, connections: { _ in .stripsSTARTTLS },
                ends: ends(
                    "delivered cleartext-allowed", "refused starttls-not-supported",
                    "refused starttls-not-supported"), byDesign: ["opportunistic"]),
            Attack(
                what: "STARTTLS stripped from EHLO", world: .sts, connections: { _ in .stripsSTARTTLS },
                ends: ends(
                    "deferred starttls-not-supported", "refused starttls-not-supported",
                    "refused starttls-not-supported")),
            Attack(
                what: "an answer to EHLO without STARTTLS put behind the greeting", world: .dane,
                connections: { _ in .answersAhead("250-front.test\r\n250 DSN\r\n") },
                ends: all("deferred starttls-not-supported")),
        ]
        + both("STARTTLS answered 454", broken) { _ in .answersSTARTTLS("454 4.7.0 TLS not available\r\n") }
        + both("STARTTLS answered 502", broken) { _ in .answersSTARTTLS("502 5.5.1 no\r\n") }
        + both("STARTTLS answered 250, as if there were nothing to do", broken) { _ in
            .answersSTARTTLS("250 2.0.0 ok\r\n")
        }
        + both("STARTTLS answered 421", all("deferred remote-deferred")) { _ in
            .answersSTARTTLS("421 4.3.2 later\r\n")
        }

    private static let injected: [Attack] =
        both("an answer in clear behind the 220, same segment", broken) { _ in
            .injects("250-front.test\r\n250 DSN\r\n", .sameSegment)
        }
        + both("an answer in clear behind the 220, next segment", broken) { _ in
            .injects("250-front.test\r\n250 DSN\r\n", .nextSegment)
        }
        + both("an answer in clear in place of the server's hello", broken) { _ in
            .injects("250-front.test\r\n250 DSN\r\n", .beforeServerHello)
        }
        + both("half an answer behind the 220", broken) { _ in .injects("250-", .sameSegment) }
        + both("an alert in clear behind the server's hello", broken) { _ in
            .injectsBehindServerHello([21, 3, 3, 0, 2, 2, 40])
        }

    private static let rolledBack: [Attack] =
        both("TLS 1.3 taken out of the hello", broken) { _ in
            .altersClientHello { HelloSurgery.without([4], $0) }
        }
        + [
            Attack(
                what: "all but TLS 1.0 and 1.1 taken out of the hello, to a host that has these",
                world: .plain,
                connections: { _ in .altersClientHello { HelloSurgery.without([3, 4], $0) } },
                takesOldVersions: true, ends: broken),
            Attack(
                what: "all but TLS 1.0 and 1.1 taken out of the hello", world: .dane,
                connections: { _ in .altersClientHello { HelloSurgery.without([3, 4], $0) } },
                ends: ends(
                    "deferred tls-handshake-failed", "deferred tls-version-too-low",
                    "deferred tls-version-too-low")),
            Attack(
                what: "a host that has TLS 1.0 and 1.1 only", world: .dane,
                connections: { .redirects($0) }, impostor: .old, ends: all("deferred tlsa-invalid")),
            Attack(
                what: "a host that has TLS 1.0 and 1.1 only", world: .plain,
                connections: { .redirects($0) }, impostor: .old,
                ends: ends(
                    "delivered tls-unauthenticated", "refused tls-version-too-low",
                    "refused tls-version-too-low"), byDesign: ["opportunistic"]),
            Attack(
                what: "the alert protocol_version in place of the server's hello", world: .plain,
                connections: { _ in .answersClientHello([21, 3, 3, 0, 2, 2, 70]) },
                ends: ends(
                    "deferred tls-handshake-failed", "refused tls-version-too-low",
                    "refused tls-version-too-low")),
        ]
        + [UInt8(0), 40, 71, 80, 86].flatMap { code in
            both("the alert \(code) in place of the server's hello", broken) { _ in
                .answersClientHello([21, 3, 3, 0, 2, code == 0 ? 1 : 2, code])
            }
        }
        + both("the connection cut at the hello", broken) { _ in .answersClientHello([]) }

    private static let swapped: [Attack] = [
        Attack(
            what: "another certificate after the scan", world: .dane, wasScanned: true,
            connections: { .redirects($0) }, impostor: .selfSigned, ends: all("deferred tlsa-invalid")),
        Attack(
            what: "a trusted certificate of another name after the scan", world: .dane, wasScanned: true,
            connections: { .redirects($0) }, impostor: .trustedElsewhere, ends: all("deferred tlsa-invalid")),
        Attack(
            what: "another certificate after the scan", world: .plain, wasScanned: true,
            connections: { .redirects($0) }, impostor: .selfSigned,
            ends: ends("delivered tls-unauthenticated", "refused certificate-not-trusted"),
            byDesign: ["opportunistic"]),
        Attack(
            what: "a trusted certificate of another name after the scan", world: .plain, wasScanned: true,
            connections: { .redirects($0) }, impostor: .trustedElsewhere,
            ends: ends("delivered tls-unauthenticated", "refused certificate-host-mismatch"),
            byDesign: ["opportunistic"]),
        Attack(
            what: "another certificate after the scan", world: .sts, wasScanned: true,
            connections: { .redirects($0) }, impostor: .selfSigned,
            ends: ends("deferred certificate-not-trusted", "refused certificate-not-trusted")),
    ]

    private static let tlsa = "_{P}._tcp.mx.{D}"

    private static func forging(
        _ what: String, _ name: String, _ type: UInt16, _ ends: [String: String], in world: World = .dane,
        impostor: Impostor? = nil, byDesign: Set<String> = [],
        _ forgery: @escaping @Sendable (Site) -> DNSForgery
    ) -> Attack {
        Attack(
            what: what, world: world, connections: { impostor == nil ? .none : .redirects($0) },
            answers: [(name, type, forgery)], impostor: impostor, ends: ends, byDesign: byDesign)
    }

    private static let forged: [Attack] = [
        forging("TLSA absent, not signed", tlsa, 52, all("deferred dnssec-invalid"), impostor: .selfSigned) {
            _ in .unsigned([])
        },
        forging(
            "TLSA does not exist, not signed", tlsa, 52, all("deferred dnssec-invalid"), impostor: .selfSigned
        ) {
            _ in .code(3)
        },
        forging(
            "TLSA of the attacker, not signed", tlsa, 52, all("deferred dnssec-invalid"),
            impostor: .selfSigned
        ) {
            _ in .unsigned([[3, 1, 1] + Array(repeating: 7, count: 32)])
        },
        forging(
            "TLSA with another signature", tlsa, 52, all("deferred dnssec-invalid"), impostor: .selfSigned
        ) {
            _ in .badlySigned
        },
        forging("TLSA answered SERVFAIL", tlsa, 52, all("deferred dns-failure"), impostor: .selfSigned) { _ in
            .code(2)
        },
        forging("TLSA answered REFUSED", tlsa, 52, all("deferred dns-failure"), impostor: .selfSigned) { _ in
            .code(5)
        },
        forging(
            "the delegation made to look unsigned", "{D}", 43, all("deferred dnssec-invalid"),
            impostor: .selfSigned
        ) { _ in .unsigned([]) },
        forging(
            "the address, not signed", "mx.{D}", 1, all("deferred dnssec-invalid"),
            impostor: .trustedElsewhere
        ) {
            .unsigned([DNSForgery.a($0.impostor)])
        },
        forging("the MX, not signed", "{D}", 15, all("deferred dnssec-invalid"), impostor: .trustedElsewhere)
        {
            .unsigned([DNSForgery.mx($0.evil)])
        },
        forging(
            "the address", "mx.{D}", 1,
            ends("delivered tls-unauthenticated", "refused certificate-host-mismatch"), in: .plain,
            impostor: .trustedElsewhere, byDesign: ["opportunistic"]
        ) { .unsigned([DNSForgery.a($0.impostor)]) },
        forging(
            "design §9: the MX, to a host with a certificate of its own, is enough for secure and not for nta7516",
            "{D}", 15, ends("delivered tls-authenticated", "delivered tls-authenticated"), in: .plain,
            impostor: .trustedElsewhere, byDesign: ["opportunistic", "secure"]
        ) { .unsigned([DNSForgery.mx($0.evil)]) },
        forging(
            "the MX, to a host with a certificate of its own, against a policy that is held", "{D}", 15,
            ends("deferred sts-mx-mismatch", "deferred sts-mx-mismatch"), in: .sts,
            impostor: .trustedElsewhere
        ) { .unsigned([DNSForgery.mx($0.evil)]) },
    ]

    private static let policies: [Attack] = [
        Attack(
            what: "the policy host away, the policy held", world: .sts, connections: { .redirects($0) },
            impostor: .selfSigned, policyHost: .away,
            ends: ends("deferred certificate-not-trusted", "refused certificate-not-trusted")),
        Attack(
            what: "RFC 8461 §5.1: the policy host away, no policy ever held", world: .sts, wasServed: false,
            connections: { .redirects($0) }, impostor: .selfSigned, policyHost: .away,
            ends: ends("delivered tls-unauthenticated", "refused certificate-not-trusted"),
            byDesign: ["opportunistic"]),
        Attack(
            what: "the policy's record taken away, the policy held", world: .sts,
            connections: { .redirects($0) }, answers: [("_mta-sts.{D}", 16, { _ in .code(3) })],
            impostor: .selfSigned,
            ends: ends("deferred certificate-not-trusted", "refused certificate-not-trusted")),
        Attack(
            what: "the policy's record not to be had, the policy held", world: .sts,
            connections: { .redirects($0) }, answers: [("_mta-sts.{D}", 16, { _ in .code(2) })],
            impostor: .selfSigned,
            ends: ends("deferred certificate-not-trusted", "refused certificate-not-trusted")),
        Attack(
            what: "the policy's record not to be had, no policy ever held", world: .sts, wasServed: false,
            connections: { .redirects($0) }, answers: [("_mta-sts.{D}", 16, { _ in .code(2) })],
            impostor: .selfSigned, ends: ends("deferred sts-lookup-failed", "deferred sts-lookup-failed")),
        Attack(
            what: "another policy over a bad certificate, and an MX that it names", world: .sts,
            answers: [
                ("_mta-sts.{D}", 16, { _ in .unsigned([DNSForgery.txt("v=STSv1; id=2")]) }),
                ("{D}", 15, { .unsigned([DNSForgery.mx($0.evil)]) }),
            ], impostor: .trustedElsewhere, policyHost: .swapped,
            ends: ends("deferred sts-mx-mismatch", "deferred sts-mx-mismatch")),
    ]
}
