package printable

import "fmt"

// Size is a number of bytes in units of 1024, as "512B", "1.5MiB" or "12MiB".
func Size(bytes int64) string {
	units, n := []string{"B", "KiB", "MiB", "GiB", "TiB"}, float64(bytes)
	i := 0
	for ; n >= 1024 && i < len(units)-1; i++ {
		n /= 1024
	}
	if n < 10 && i > 0 {
		return fmt.Sprintf("%.1f%s", n, units[i])
	}
	return fmt.Sprintf("%.0f%s", n, units[i])
}
