// The pinned root of the cluster's key sets, as 32 bytes.
import Foundation

extension SettingType where Value == [UInt8] {
    /// An Ed25519 public key in base64.
    static var rootKey: SettingType {
        .readable("Ed25519 public key", example: "44 characters of base64, printed by zegel keyring") {
            text in
            guard let data = Data(base64Encoded: text), data.count == 32 else { return nil }
            return Array(data)
        }
    }
}
