package credential

import "fmt"

// MaxName is the longest name in bytes, that of a DNS label.
const MaxName = 63

// CheckName returns an error that is [ErrInvalid] unless name is fit for a
// member: 1 to 63 of a-z, 0-9 and hyphens, with no hyphen at either end. Such a
// name can stand in a host name, a URL, a path and a shell command as it is.
func CheckName(name string) error {
	if len(name) == 0 || len(name) > MaxName {
		return fmt.Errorf("name %.80q: %w: %d characters, not 1 to %d", name, ErrInvalid, len(name), MaxName)
	}
	for i := range len(name) {
		if !nameByte(name[i]) {
			return fmt.Errorf("name %q: %w: only a-z, 0-9 and hyphens may be in it", name, ErrInvalid)
		}
	}
	if name[0] == '-' || name[len(name)-1] == '-' {
		return fmt.Errorf("name %q: %w: a hyphen may not be first or last", name, ErrInvalid)
	}
	return nil
}

func nameByte(c byte) bool {
	return 'a' <= c && c <= 'z' || '0' <= c && c <= '9' || c == '-'
}
