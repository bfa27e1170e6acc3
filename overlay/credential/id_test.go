package credential

import (
	"strings"
	"testing"
)

func TestMeshID(t *testing.T) {
	id := newTestMesh(t, 1).id
	text := id.String()
	for _, tt := range []struct {
		name, text string
		want       error
		says       string
	}{
		{"its own text", text, nil, ""},
		{"zero", MeshID{}.String(), nil, ""},
		{"nothing", "", ErrInvalid, "0 characters, not 52"},
		{"too short", text[1:], ErrInvalid, "51 characters"},
		{"too long", text + "a", ErrInvalid, "53 characters"},
		{"upper case", strings.ToUpper(text), ErrInvalid, ""},
		{"a line break in it", text[:20] + "\n" + text[21:], ErrInvalid, ""},
		{"a line break behind it", text[:51] + "\n", ErrInvalid, ""},
		{"bits left over", text[:51] + "b", ErrInvalid, "not the one way"},
		{"a letter there is not", "1" + text[1:], ErrInvalid, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got, err := ParseMeshID(tt.text)
			checkErr(t, "ParseMeshID", err, tt.want, tt.says)
			if err == nil && got.String() != tt.text {
				t.Errorf("ParseMeshID(%q) = %v, want the same", tt.text, got)
			}
			if err != nil && got != (MeshID{}) {
				t.Errorf("ParseMeshID(%q) = %v along with an error, want zero", tt.text, got)
			}
		})
	}
}

func TestSerial(t *testing.T) {
	want := newTestMesh(t, 1).invite.ID()
	got, err := ParseSerial(want.String())
	if err != nil || got != want {
		t.Errorf("ParseSerial(%q) = %v, %v, want the same", want, got, err)
	}
	_, err = ParseSerial("abc")
	checkErr(t, "ParseSerial", err, ErrInvalid, "3 characters, not 26")
}

func FuzzParseMeshID(f *testing.F) {
	f.Add(MeshID{}.String())
	f.Add(newTestMesh(f, 1).id.String())
	f.Fuzz(func(t *testing.T, s string) {
		if id, err := ParseMeshID(s); err == nil && id.String() != s {
			t.Errorf("ParseMeshID(%q).String() = %q, want the same", s, id)
		}
	})
}

func FuzzParseSerial(f *testing.F) {
	f.Add(Serial{}.String())
	f.Add(newTestMesh(f, 1).invite.ID().String())
	f.Fuzz(func(t *testing.T, s string) {
		if serial, err := ParseSerial(s); err == nil && serial.String() != s {
			t.Errorf("ParseSerial(%q).String() = %q, want the same", s, serial)
		}
	})
}
