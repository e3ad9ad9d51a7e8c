// The third level: one random AES-256 key per message and purpose. What is kept in memory is not that key but what is
// derived from it: a working key (for frames and digests, or for fields) and a commitment that its wrapping carries.

import Crypto
import Foundation

/// The key of one message and purpose. Its bytes are overwritten when the last copy of the value goes.
public struct MessageKey: Sendable {
    /// What the key is bound to.
    public let context: SealingContext
    let working: SymmetricKey
    let commitment: SecretBytes

    /// Derives the working key and the commitment from the random message key.
    init(random: SecretBytes, context: SealingContext) {
        self.context = context
        (working, commitment) = KeyDerivation.expand(
            random, info: context.associatedData("zegel/1 message key"))
    }
}

extension MessageKey: CustomStringConvertible, CustomReflectable {
    /// Names the purpose and message, never the key.
    public var description: String {
        "MessageKey(\(context.purpose.rawValue) of \(context.message), redacted)"
    }
    /// A mirror without children.
    public var customMirror: Mirror { Mirror(self, children: [:]) }
}
