// Details of events: what the hand-made writer writes is what the reader reads.

import Foundation
import Testing

@testable import Ledger

@Suite struct EventDetailTests {
    @Test("Every field, and every awkward character, comes back")
    func roundTrip() throws {
        var detail = EventDetail()
        #expect(try EventDetail(decoding: detail.encoded()) == detail)
        detail.attempt = 3
        detail.remoteHost = "mx.peer.test"
        detail.remoteAddress = "2001:db8::1"
        detail.reply = "550 5.1.1 \"quoted\" \\ back\u{1}slash é 漢 \u{1F600}"
        detail.status = "5.1.1"
        detail.tlsVersion = "TLSv1.3"
        detail.cipherSuite = "TLS_AES_256_GCM_SHA384"
        detail.keyExchangeGroup = "x25519"
        detail.certificateDigest = "00ff"
        detail.tlsaBaseDomain = "mx.peer.test"
        detail.tlsaRecord = "3 1 1 00ff"
        detail.verdict = "deliver"
        detail.ruleset = "secure"
        detail.rulesetVersion = 1
        detail.findings = ["tls-1.3", "name-matches"]
        detail.explanation = "line\nbreak\ttab"
        detail.nextAttempt = "2026-11-24T22:04:05Z"
        detail.relatedMessage = UUID()
        detail.possibleDuplicate = true
        #expect(try EventDetail(decoding: detail.encoded()) == detail)
    }

    @Test("Fields of a later version are passed over")
    func unknownFields() throws {
        #expect(try EventDetail(decoding: Array(#"{"attempt":1,"new":{"a":[1]}}"#.utf8)).attempt == 1)
    }
}
