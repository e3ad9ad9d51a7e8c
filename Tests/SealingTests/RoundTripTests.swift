// The whole way: sealed with public keys only, opened through a key service.

import Crypto
import Foundation
import Testing

@testable import Sealing

@Suite("Sealing, the whole way")
struct RoundTripTests {
    @Test("what an edge seals with public keys, a worker of every region opens through its key service")
    func everyRegionOpens() async throws {
        let services = [try MemoryKeyService(region: "a"), try MemoryKeyService(region: "b")]
        let sealer = try Sealer(keySet: keySet(services[0], services[1]))
        let content = SealingContext.test(.content)
        let metadata = SealingContext.test(.metadata)
        let (contentKey, wrappedContent) = try sealer.messageKey(content, now: testNow)
        let (metadataKey, wrappedMetadata) = try sealer.messageKey(metadata, now: testNow)
        let records = sealer.takeNewBatchKeys()
        #expect(records.count == 2)
        #expect(sealer.takeNewBatchKeys().isEmpty)

        let body = (0..<150_000).map { UInt8(truncatingIfNeeded: $0 &* 31) }
        var frames = try FrameSealer(key: contentKey, context: content)
        var sealed: [[UInt8]] = []
        for start in stride(from: 0, to: body.count, by: frames.frameSize) {
            let end = min(start + frames.frameSize, body.count)
            sealed.append(try frames.seal(Array(body[start..<end]), isLast: end == body.count))
        }
        let envelope = try SealedField.seal(
            Array("from@demo.test".utf8), key: metadataKey, context: metadata, field: "envelope")

        for service in services {
            let opener = BatchKeyOpener(service: service, region: service.region)
            let contentRecord = try #require(records.first { $0.id == wrappedContent.batchKeyID })
            let metadataRecord = try #require(records.first { $0.id == wrappedMetadata.batchKeyID })
            let openedContent = try await opener.messageKey(
                record: contentRecord, wrapped: wrappedContent, context: content)
            var opening = FrameOpener(key: openedContent, context: content)
            var plain: [UInt8] = []
            for frame in sealed { plain += try opening.open(frame).bytes }
            try opening.finish()
            #expect(plain == body)
            let openedMetadata = try await opener.messageKey(
                record: metadataRecord, wrapped: wrappedMetadata, context: metadata)
            #expect(
                try SealedField.open(envelope, key: openedMetadata, context: metadata, field: "envelope")
                    == Array("from@demo.test".utf8))
        }
    }
}
